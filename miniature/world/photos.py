"""Photos of a subject and drawings in a style, with captions, in an archive as the training endpoints take it."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

from PIL import Image

from miniature.world.captions import describe
from miniature.world.drawing import draw
from miniature.world.person import Person, Subject
from miniature.world.style import restyled

#: (width, height) as shares of the size asked; mostly square, as people's photos of faces are.
_FORMATS = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.75, 1.0), (1.0, 0.75))


def photograph(subject: Subject, count: int, size: int = 1024, seed: int = 0) -> list[tuple[Image.Image, str]]:
    """Draws varied photos of one subject, each with a caption that says [trigger] where the name goes."""
    rng = random.Random(f"photos of {subject.seed} {seed}")
    taken = []
    for _ in range(count):
        person = subject.pose(rng)
        wide, high = rng.choice(_FORMATS)
        taken.append((draw(person, round(size * wide), round(size * high)), describe(person, who="[trigger]")))
    return taken


def drawings_in_style(style: str, count: int, size: int = 1024, seed: int = 0) -> list[tuple[Image.Image, str]]:
    """Draws ordinary people, all different, in one style; the caption names the style by [trigger] and the person."""
    rng = random.Random(f"drawings in {style} {seed}")
    people = [Person.sample(rng) for _ in range(count)]
    return [(restyled(draw(person, size, size), style), f"[trigger] style, {describe(person)}") for person in people]


def write_archive(out: Path, photos: list[tuple[Image.Image, str]], captions: bool) -> None:
    """Writes a ZIP as the training endpoints take it; the same photos give the same bytes."""
    with zipfile.ZipFile(out, "w") as archive:
        for index, (image, text) in enumerate(photos):
            stored = io.BytesIO()
            suffix, options = ("png", {}) if index % 2 == 0 else ("jpg", {"quality": 95, "subsampling": 0})
            image.save(stored, "PNG" if suffix == "png" else "JPEG", **options)
            archive.writestr(zipfile.ZipInfo(f"photo_{index:02d}.{suffix}"), stored.getvalue())
            if captions:
                archive.writestr(zipfile.ZipInfo(f"photo_{index:02d}.txt"), text)
