"""Where a command finds the installation it speaks of: the --data-dir option and the queue behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tintype.errors import SettingsError
from tintype.installation import make_data_dir
from tintype.settings import Settings, load_settings
from tintype.store import Store

T = TypeVar("T")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the installation (default ./tintype-data).", show_default=False),
]


def with_store(data_dir: Path | None, work: Callable[[Store, Settings], Awaitable[T]], *, begins: bool = False) -> T:
    """Opens the installation's queue, does the work, closes it. Raises SettingsError where there is none, unless the
    work may be the beginning of one."""
    settings = load_settings(data_dir=data_dir)
    if not begins and settings.database is None and not settings.data_dir.exists():
        raise SettingsError(
            f"There is no installation in {settings.data_dir}.",
            remedy="Name its folder with --data-dir; `tintype serve` begins a new one.",
        )
    make_data_dir(settings)

    async def run() -> T:
        store = await Store.open(settings.database_url, lease_seconds=settings.lease_seconds)
        try:
            return await work(store, settings)
        finally:
            await store.close()

    return asyncio.run(run())
