"""Where a command finds the installation it speaks of: the --data-dir option and the store behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from tintype.errors import BadRequest, NotFound, SettingsError
from tintype.installation import make_data_dir
from tintype.settings import Settings, load_settings

if TYPE_CHECKING:
    from tintype.store import Store

SEARCHED = 10_000  # requests or models looked through for an id that was cut short


class _WithId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T")
Named = TypeVar("Named", bound=_WithId)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the installation (default ./tintype-data).", show_default=False),
]


def with_store(data_dir: Path | None, work: Callable[[Store, Settings], Awaitable[T]], *, begins: bool = False) -> T:
    """Opens the installation's store, does the work, closes it. Raises SettingsError where there is none, unless the
    work may be the beginning of one."""
    settings = load_settings(data_dir=data_dir)
    if not begins and settings.database is None and not settings.data_dir.exists():
        raise SettingsError(
            f"There is no installation in {settings.data_dir}.",
            remedy="Name its folder with --data-dir; `tintype serve` begins a new one.",
        )
    make_data_dir(settings)
    return run_with_store(settings, work)


def run_with_store(settings: Settings, work: Callable[[Store, Settings], Awaitable[T]]) -> T:
    """Opens the store of settings, does the work, closes it."""
    from tintype.store import Store  # with SQLAlchemy: only for commands that look into it

    async def run() -> T:
        store = await Store.open(settings.database_url, lease_seconds=settings.lease_seconds)
        try:
            return await work(store, settings)
        finally:
            await store.close()

    return asyncio.run(run())


def only_one(things: Sequence[Named], beginning: str, kind: str) -> Named:
    """Finds the one whose id begins so. Raises NotFound where there is none, BadRequest where there are more."""
    similar = [thing for thing in things if thing.id.startswith(beginning)]
    if len(similar) > 1:
        raise BadRequest(f"{len(similar)} {kind}s begin with {beginning!r}.", remedy="Give a few characters more.")
    if not similar:
        raise NotFound(f"There is no {kind} {beginning!r}.", remedy=f"`tintype {kind}s list` shows them.")
    return similar[0]
