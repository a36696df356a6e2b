"""What the readers of zip and tar have in common: one file that an archive lists, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

LINK = "a link or device, not a file"
LOCKED = "protected by a password"


@dataclass(frozen=True)
class Entry:
    """Holds one file of an archive; `read` gives its content in pieces and may raise UnreadableMember."""

    name: str | bytes  # bytes where the archive does not say how it is encoded
    read: Callable[[], Iterable[bytes]] = tuple
    reason: str = ""  # why it is not read


class UnreadableMember(Exception):
    """Says in a few words why one member cannot be read; the others can."""


class TooManyEntries(Exception):
    """An archive lists more than its reader allows; holds how many were seen."""
