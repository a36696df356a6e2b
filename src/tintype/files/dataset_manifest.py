"""What an archive made of a dataset says of its photos beside their captions: who wrote those, and what is trained.

It lies in the archive as `tintype.json`, before all photos. Whoever reads the archive elsewhere has the captions as
text files, and may pass this one over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MANIFEST = "tintype.json"
_MOST_BYTES = 32 * 1024 * 1024
_WRITERS = ("person", "file", "model")

Crop = tuple[float, float, float, float]


@dataclass(frozen=True)
class PhotoNote:
    """Says who wrote the caption of a photo, and what of it is trained: left, top, right and bottom, as shares of its
    width and height. `captioner` is the name of a model."""

    caption: str | None = None
    by: Literal["person", "file", "model"] = "file"
    captioner: str | None = None
    crop: Crop | None = None


def crop_shares(crop: Sequence[float], width: float, height: float) -> Crop:
    """Turns a box in pixels into shares."""
    left, top, right, bottom = crop
    return left / width, top / height, right / width, bottom / height


def write_manifest(notes: Mapping[str, PhotoNote]) -> bytes:
    """Writes the notes on photos, by their names in the archive."""
    photos = {
        name: {"caption": note.caption, "caption_by": note.by, "captioner": note.captioner, "crop": note.crop}
        for name, note in notes.items()
    }
    return json.dumps({"tintype_dataset": 1, "photos": photos}, indent=1, ensure_ascii=False).encode()


def read_manifest(path: Path) -> dict[str, PhotoNote]:
    """Reads the notes; empty for a file that is no manifest. What is wrong in one is passed over."""
    if path.stat().st_size > _MOST_BYTES:
        return {}
    try:
        given = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    photos = given.get("photos") if isinstance(given, dict) and "tintype_dataset" in given else None
    if not isinstance(photos, dict):
        return {}
    return {name: _note(note) for name, note in photos.items() if isinstance(note, dict)}


def _note(given: Mapping[str, Any]) -> PhotoNote:
    caption, by, captioner = given.get("caption"), given.get("caption_by"), given.get("captioner")
    return PhotoNote(
        caption if isinstance(caption, str) and caption.strip() else None,
        by if by in _WRITERS else "file",
        captioner if isinstance(captioner, str) else None,
        _crop(given.get("crop")),
    )


def _crop(given: Any) -> Crop | None:
    if not isinstance(given, list) or len(given) != 4:
        return None
    if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in given):
        return None
    left, top, right, bottom = map(float, given)
    return (left, top, right, bottom) if left < right and top < bottom else None
