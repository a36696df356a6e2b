"""A data folder made by the version before, and what is in it; see README.md."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PREVIOUS_MIGRATIONS = HERE / "migrations"  # that led to its tables


@dataclass(frozen=True)
class PreviousVersion:
    """The unpacked folder. `keys` by name (`ada2` is a second key of ada, `gone` is revoked), `ids` of requests by what
    they are: training, drawing, failed, queued_drawing, queued_training."""

    data_dir: Path
    keys: dict[str, str]
    ids: dict[str, str]
    model_id: str  # of what `training` made
    upload: str  # URL of photos.zip


def unpacked(folder: Path) -> PreviousVersion:
    """Unpacks a fresh copy into `folder`."""
    with tarfile.open(HERE / "data.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return PreviousVersion(folder / "data", **json.loads((HERE / "made.json").read_text()))
