"""Whether something failed because the disk is full: every library that writes for us says so in words of its own."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tintype.errors import StorageFull

_WORDS = ("no space left on device", "disk quota exceeded", "os error 28", "os error 122")
_FULL = {
    errno.ENOSPC: "The disk of this server is full.",
    errno.EDQUOT: "The disk quota of this server is used up.",
    errno.EFBIG: "The disk of this server takes no file of this size.",
}


def is_full(problem: BaseException | None) -> bool:
    """Tells whether a full disk, or a used-up quota, is behind an error: by its number, its text, or its cause."""
    if problem is None:
        return False
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(word in str(problem).lower() for word in _WORDS) or is_full(problem.__cause__)


@contextmanager
def writing() -> Iterator[None]:
    """Raises StorageFull in place of what the system says when a disk is full; other errors stay as they are."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        remedy = "Free space where its data lies, or set TINTYPE_STORAGE."
        raise StorageFull(_FULL[problem.errno], remedy=remedy) from problem
