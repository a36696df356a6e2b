"""How many pictures a training takes, which only the opened archive can tell."""

from __future__ import annotations

from tintype.dataset.archive import LOC
from tintype.errors import TooFewFiles, TooManyFiles


def check_count(count: int, least: int, most: int) -> None:
    """Raises TooFewFiles or TooManyFiles at `images_data_url` unless `count` usable pictures are within the bounds."""
    if count < least:
        raise TooFewFiles(
            f"The archive holds too few usable pictures: {count}, where at least {least} are needed.",
            loc=LOC,
            remedy=f"Send {least} to {most} pictures, as JPEG, PNG or WebP.",
            ctx={"min_count": least, "provided_count": count},
        )
    if count > most:
        raise TooManyFiles(
            f"The archive holds {count} pictures, and at most {most} are taken.",
            loc=LOC,
            remedy="Send the best ones; 10 to 30 are plenty.",
            ctx={"max_count": most, "provided_count": count},
        )
