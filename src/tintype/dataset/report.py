"""What became of every file a person sent: kept, repaired, dropped, and what it was trained as.

Other trainers skip a broken picture in silence, or end because of it; here the person reads which and why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tintype.count import some_of
from tintype.dataset.coverage import Aspect
from tintype.files.disk import write_file

_UNSEEN = ("thumbnail", "mask_overlay", "pictures")  # for the page; a JSON reader has no use for them


@dataclass
class TrainedCrop:
    """Describes one crop of an image as it is trained. `box` is in the upright photo's pixels, None for all of it."""

    caption: str
    buckets: list[str]
    framing: str | None = None
    box: list[int] | None = None
    mask: str | None = None
    mask_overlay: bytes | None = None  # PNG: dark where the loss counts little


@dataclass
class KeptImage:
    """Describes an image that is trained. `caption` is its own, before words for a framing; `face` is in its pixels."""

    name: str
    width: int
    height: int
    caption: str
    caption_source: str
    subject: str
    trained: list[TrainedCrop]
    face: list[int] | None = None
    faces: int = 0
    findings: list[str] = field(default_factory=list)
    thumbnail: bytes | None = None  # JPEG


@dataclass
class FileNote:
    """Names a file and what became of it."""

    name: str
    what: str
    thumbnail: bytes | None = None


@dataclass
class ScoredStep:
    """Describes the LoRA of one step of the training, as it was scored; None: not measured."""

    step: int
    likeness: float | None
    adherence: float | None
    originality: float | None
    total: float
    is_chosen: bool
    pictures: list[bytes]  # PNG


@dataclass
class DatasetReport:
    """Tells everything about the intake of one dataset, and which step of the training was chosen.

    Every file is in one of `kept`, `captions` (read for what they say), `dropped` and `ignored` (that nobody meant to
    send). `name_encoding` is how names were decoded where the archive does not say.
    """

    kept: list[KeptImage] = field(default_factory=list)
    repaired: list[FileNote] = field(default_factory=list)
    dropped: list[FileNote] = field(default_factory=list)
    ignored: list[FileNote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    face_finder: str | None = None
    captions: list[FileNote] = field(default_factory=list)
    name_encoding: str | None = None
    alike: list[tuple[str, str]] = field(default_factory=list)  # of the kept: look much alike
    coverage: list[Aspect] = field(default_factory=list)
    scored: list[ScoredStep] = field(default_factory=list)
    consent: str = ""  # who agreed, in the words of whoever sent the images

    @property
    def held_out(self) -> list[str]:
        """Names the photos that are kept, and never trained on."""
        return [image.name for image in self.kept if not image.trained]

    @property
    def buckets(self) -> dict[str, int]:
        """Counts the crops that are trained at each size (nominal pixels), smallest first."""
        counted = Counter(bucket for image in self.kept for crop in image.trained for bucket in crop.buckets)
        return dict(sorted(counted.items(), key=lambda it: (_pixels(it[0]), it[0])))

    @property
    def framings(self) -> dict[str, int]:
        """Counts the crops by what they show of the person; empty where no face was looked for."""
        counted = Counter(crop.framing for image in self.kept for crop in image.trained if crop.framing)
        return dict(counted.most_common())

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self, dict_factory=lambda items: {key: value for key, value in items if key not in _UNSEEN})
        return {**plain, "buckets": self.buckets, "framings": self.framings}

    def summary(self) -> dict[str, Any]:
        """Gives the counts alone, for places that have no room for every name."""
        return {
            "kept": len(self.kept),
            "held_out": self.held_out,
            "repaired": len(self.repaired),
            "dropped": len(self.dropped),
            "ignored": len(self.ignored),
            "warnings": self.warnings,
            "coverage": [{"aspect": each.aspect, "state": each.state, "text": each.text} for each in self.coverage],
            "buckets": self.buckets,
            "framings": self.framings,
        }

    def write(self, path: Path) -> Path:
        return write_file(path, json.dumps(self.to_json(), indent=2, ensure_ascii=False))


def describe_files(repaired: Sequence[FileNote], dropped: Sequence[FileNote]) -> list[str]:
    """Writes lines for a log, few even for a thousand photos: files are grouped by what became of them."""
    return _grouped(repaired, "{what}: {names}.") + _grouped(dropped, "Left out ({what}): {names}.")


def _grouped(notes: Sequence[FileNote], sentence: str) -> list[str]:
    groups: dict[str, list[str]] = {}
    for note in notes:
        # The reason often begins with the file's own name, which is said anyway.
        groups.setdefault(note.what.removeprefix(f"{note.name} ").rstrip("."), []).append(note.name)
    lines = [sentence.format(what=what, names=some_of(names, 20)) for what, names in groups.items()]
    if len(lines) > 100:
        lines = [*lines[:100], f"… and {len(lines) - 100} reasons more; the report names every file."]
    return [line[0].upper() + line[1:] for line in lines]


def _pixels(bucket: str) -> int:
    width, height = bucket.split("x")
    return int(width) * int(height)
