"""What other users of the machine could read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def open_to_others(folder: Path) -> list[str]:
    """Lists what others than its owner may do anything with: the folder, and files and folders below it."""
    found = [folder, *(Path(place, name) for place, *names in os.walk(folder) for name in (*names[0], *names[1]))]
    return [f"{path} {mode & 0o777:o}" for path in found if (mode := _mode(path)) & 0o077 and not stat.S_ISLNK(mode)]


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:  # of a server that is just ending
        return 0


def data_folders(below: Path) -> Iterator[Path]:
    """Finds the folders in which an installation worked: each has its locks there."""
    for place, folders, _ in os.walk(below):
        if "locks" in folders:
            folders.clear()  # what lies below belongs to it
            yield Path(place)
