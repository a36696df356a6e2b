"""Says what became of every file a person sent: kept, repaired, dropped, and what it was trained as.

Other trainers skip a broken picture in silence, or end because of it; here the person reads which and why.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Kept:
    """A picture that is trained."""

    name: str
    width: int
    height: int
    caption: str
    caption_source: str
    subject: str
    cropped_to: list[int] | None = None
    mask: str | None = None
    buckets: list[str] = field(default_factory=list)


@dataclass
class Said:
    """A file and what is to be said about it."""

    name: str
    what: str


@dataclass
class DatasetReport:
    """Everything about the intake of one dataset, in the order of the archive."""

    kept: list[Kept] = field(default_factory=list)
    repaired: list[Said] = field(default_factory=list)
    dropped: list[Said] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def buckets(self) -> dict[str, int]:
        """How many pictures are trained at each size (nominal pixels)."""
        counted: dict[str, int] = {}
        for picture in self.kept:
            for bucket in picture.buckets:
                counted[bucket] = counted.get(bucket, 0) + 1
        return dict(sorted(counted.items()))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "buckets": self.buckets}

    def summary(self) -> dict[str, Any]:
        """The counts alone, for places that have no room for every name."""
        return {
            "kept": len(self.kept),
            "repaired": len(self.repaired),
            "dropped": len(self.dropped),
            "warnings": self.warnings,
            "buckets": self.buckets,
        }

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")
        return path
