"""What the parts of `Queue` share: a database and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from tintype.queue.database import Database


class Room:
    """A part of `Queue`: its methods work on the one database, by the one clock."""

    def __init__(self, database: Database, *, lease_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._now = clock


def storable(text: str) -> bool:
    """Whether a text from outside can be a stored name at all (Postgres refuses NUL, UTF-8 lone surrogates)."""
    return text.isprintable()


def cleaned(text: str) -> str:
    """Any text, made storable: what a job prints may hold anything."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")
