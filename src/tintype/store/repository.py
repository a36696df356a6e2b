"""What the parts of `Queue` share: a database, a clock, and how a value becomes one that can be stored."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from tintype.store.database import Database

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Repository")


class Repository:
    """A part of `Queue`: its methods work on the one database, by the one clock."""

    def __init__(self, database: Database, *, lease_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._now = clock

    async def close(self) -> None:
        """Lets what has begun be finished, then ends all connections."""
        await self._database.close()


def uninterrupted(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """For methods that write: run to their end, though the caller be cancelled (see database.py)."""

    @functools.wraps(method)
    async def call(room: S, /, *given: P.args, **named: P.kwargs) -> R:
        return await room._database.to_the_end(method(room, *given, **named))

    return call


def storable(text: str) -> bool:
    """Whether a text from outside can be a stored name at all (Postgres refuses NUL, UTF-8 lone surrogates)."""
    return text.isprintable()


def cleaned(text: str) -> str:
    """Any text, made storable: what a job prints may hold anything."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def finite(value: Any) -> Any:
    """A JSON value with null for what JSON has no word for: a diverged loss must not stop the one who reports it."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
