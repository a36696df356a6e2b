"""Counts the images of a model whose licence asks for reports: a file for each day (UTC), a byte for each image.

It is the outbox of `web/licence_reports.py`, and nothing is in it unless a licence key is set. A byte is appended as
soon as an image is there, by whichever process, so that none is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tintype.files.disk import writing
from tintype.settings import Settings

_REPORTED = ".reported"
_GRACE = timedelta(hours=1)  # after a day's end, for what began to be written before it


@dataclass(frozen=True)
class DayCount:
    """Says how many images of a model were made on a day."""

    model: str  # as its licensor calls it
    day: str  # such as 2026-11-27
    path: Path

    @property
    def images(self) -> int:
        return self.path.stat().st_size

    def mark_reported(self) -> None:
        """Takes the day out of the outbox; its count stays for whoever looks."""
        self.path.rename(self.path.with_suffix(_REPORTED))


def count_images(settings: Settings, model: str, images: int) -> None:
    """Counts images that were made just now, where a licence key is set and the model is one to be reported."""
    if not settings.bfl_license_key or not model:
        return
    folder = _folder(settings) / model
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder, images), (folder / f"{datetime.now(UTC):%Y-%m-%d}").open("ab") as file:
        file.write(b"." * images)


def unreported(settings: Settings, now: datetime) -> list[DayCount]:
    """Lists the days that are over and were not reported, the oldest first."""
    over = f"{now - _GRACE:%Y-%m-%d}"
    return [count for count in _counts(settings, "") if count.day < over]


def last_reported(settings: Settings) -> DayCount | None:
    """Returns the latest day that was reported; None where none was."""
    return next(reversed(list(_counts(settings, _REPORTED))), None)


def _counts(settings: Settings, suffix: str) -> Iterator[DayCount]:
    found = (path for path in _folder(settings).glob("*/*") if path.suffix == suffix)
    return (DayCount(path.parent.name, path.stem, path) for path in sorted(found, key=lambda path: path.name))


def _folder(settings: Settings) -> Path:
    return settings.data_dir.resolve() / "generations"
