"""Whether something failed because the disk is full: every library that writes for us says so in words of its own."""

from __future__ import annotations

import errno

_WORDS = ("no space left on device", "disk quota exceeded", "os error 28", "os error 122")


def is_full(problem: BaseException | None) -> bool:
    """Whether a full disk, or a used-up quota, is behind an error: by its number, its text, or its cause."""
    if problem is None:
        return False
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(word in str(problem).lower() for word in _WORDS) or is_full(problem.__cause__)
