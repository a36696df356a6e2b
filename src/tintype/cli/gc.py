"""`tintype gc`: removes now what the server removes by itself in time, and on request what is merely old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.data import DataDir, with_store
from tintype.settings import Settings

if TYPE_CHECKING:
    from tintype.store import Store

DAY = 86400.0

OlderThan = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Also erase input, result, files and log of requests that ended so many days ago. Custom models stay.",
        show_default=False,
    ),
]


def gc(older_than: OlderThan = None, data_dir: DataDir = None) -> None:
    """Remove what nobody can use any more: expired files, unfinished uploads, work of ended requests, orphans.

    The server does this by itself every minute (orphans: every six hours). What is in use is never touched.
    """
    from tintype.web import housekeeping
    from tintype.web.services import Services

    async def work(store: Store, settings: Settings) -> dict[str, int]:
        services = await Services.open(settings, store)
        old = 0
        while older_than is not None and (batch := await store.requests.erase_old(older_than * DAY)):
            old += batch
        removed = {"old requests": old} if older_than is not None else {}
        removed |= await housekeeping.tidy(services)
        return removed | {"files that nothing speaks of": await housekeeping.remove_orphans(services)}

    for what, count in with_store(data_dir, work).items():
        typer.echo(f"{count:7,}  {what}")
