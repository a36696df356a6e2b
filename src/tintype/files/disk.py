"""Room on disks: it is asked for before anything large is written, and some is left, so that other programs live on.

A disk that is full all the same is known for what it is: every library that writes for us says so in words of its own.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tintype.errors import StorageFull
from tintype.settings import MIB

RESERVED = 256 * MIB  # of every disk, for what others write; of a small one a twentieth
_REMEDY = "Free some space on it (`tintype doctor` shows how much there is), or keep the data elsewhere."
_WORDS = ("no space left on device", "disk quota exceeded", "os error 28", "os error 122", "os error 27")
_WORDY = ("RuntimeError", "SafetensorError")  # torch's and safetensors', which carry no number, nor a stranger's words
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(problem: BaseException | None) -> bool:
    """Tells whether a full disk, or a used-up quota, is behind an error: by its number, its text, or its cause."""
    if problem is None:
        return False
    if isinstance(problem, OSError) and problem.errno in _FULL:
        return True
    said = str(problem).lower() if type(problem).__name__ in _WORDY else ""
    return any(word in said for word in _WORDS) or is_full(problem.__cause__)


def storage_full() -> StorageFull:
    """Makes what a person is told of an error behind which there is a full disk."""
    return StorageFull("The disk is full, or takes no file of this size.", remedy=_REMEDY)


def check_room(folder: Path, size: int) -> None:
    """Raises StorageFull unless so many bytes fit on a folder's disk beside what is left to others."""
    while not folder.exists():
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    left = min(RESERVED, disk.total // 20)
    if disk.free < size + left:
        raise StorageFull(
            f"The disk has no room: {disk.free // MIB} MiB are free, {-(-size // MIB)} MiB are needed, "
            f"and {left // MIB} MiB are left to other programs.",
            remedy=_REMEDY,
        )


@contextmanager
def writing(folder: Path, size: int = 0) -> Iterator[None]:
    """Raises StorageFull unless so many bytes fit, and in place of whatever says inside that a disk is full."""
    if size:
        check_room(folder, size)
    try:
        yield
    except StorageFull:
        raise
    except Exception as problem:
        if not is_full(problem):
            raise
        raise storage_full() from problem


def write_pieces(file: BinaryIO, pieces: Iterable[bytes], folder: Path) -> int:
    """Writes into an open file in `folder`, asking for room before each piece; returns how many bytes."""
    written = 0
    for piece in pieces:
        with writing(folder, len(piece)):
            written += file.write(piece)
    return written


def write_file(path: Path, content: bytes | str) -> Path:
    """Writes a file for which there is room. Raises StorageFull."""
    data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    with writing(path.parent, len(data)):
        path.write_bytes(data)
    return path
