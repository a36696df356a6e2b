"""What the parts of `Store` share: a database, a clock, and how a value becomes one that can be stored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from tintype.settings import Limits
from tintype.store.database import Database

Clock = Callable[[], float]
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Repository")


class Repository:
    """Works on the one database by the one clock; each part of `Store` is one."""

    def __init__(self, database: Database, clock: Clock, limits: Limits | None = None) -> None:
        self._database = database
        self._now = clock
        self._limits = limits or Limits()


def uninterrupted(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Runs a method that writes to its end, even if the caller is cancelled (see database.py)."""

    @functools.wraps(method)
    async def call(repository: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await repository._database.to_the_end(method(repository, *args, **kwargs))

    return call


def finite(value: Any) -> Any:
    """Puts null where JSON has no word for a number: a diverged loss must not stop the one who reports it."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
