"""A disk that is nearly full, for whoever asks before writing."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tintype.files.disk import RESERVED


class Usage(NamedTuple):
    """As shutil's."""

    total: int
    used: int
    free: int


def leave_room(monkeypatch: pytest.MonkeyPatch, size: int, *, total: int = 10**13, reserved: int = RESERVED) -> None:
    """Fills every disk up but for what is reserved and so many bytes."""
    free = reserved + size
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(total, total - free, free))
