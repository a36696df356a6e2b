"""What other users of the machine could read."""

from __future__ import annotations

import os
from pathlib import Path


def open_to_others(folder: Path) -> list[str]:
    """Lists what others than its owner may do anything with: the folder, and files and folders below it."""
    found = [folder, *(Path(place, name) for place, *names in os.walk(folder) for name in (*names[0], *names[1]))]
    return [
        f"{path} {mode & 0o777:o}" for path in found if (mode := path.lstat().st_mode) & 0o077 and not path.is_symlink()
    ]
