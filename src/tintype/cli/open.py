"""`tintype open`: a link that signs a browser in to the pages of the server that runs."""

from __future__ import annotations

import sys
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.data import DataDir, with_store
from tintype.errors import NotFound, SettingsError
from tintype.installation import ServerInfo, key_file
from tintype.settings import Settings, load_settings
from tintype.sign_in import sign_in_url

if TYPE_CHECKING:
    from tintype.store import Store


def open_pages(
    key: Annotated[
        str | None, typer.Option(help="Name or id of the key to sign in as (default: that of the first start).")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print a link that signs a browser in, once and within an hour; at a terminal, also open it."""
    settings = load_settings(data_dir=data_dir)
    server = ServerInfo.read(settings.data_dir)
    if server is None:
        raise SettingsError(f"Nothing serves {settings.data_dir}.", remedy="Start it with `tintype serve`.")
    origin = settings.public_url.rstrip("/") if settings.public_url else f"http://{server.server}"
    link = origin
    if server.auth == "on":
        key_id = with_store(data_dir, lambda store, settings: _key_id(store, settings, key))
        link = sign_in_url(origin, settings.data_dir, key_id)
    print(link)
    if sys.stdout.isatty():
        webbrowser.open(link)


async def _key_id(store: Store, settings: Settings, wanted: str | None) -> str:
    """Finds the key to sign in as. Raises NotFound."""
    path = key_file(settings.data_dir)
    if wanted is None and not path.exists():
        raise NotFound(
            "The key of the first start is not here.", remedy="Name one with --key; `tintype keys list` shows all."
        )
    name = path.read_text().strip().partition(":")[0] if wanted is None else wanted
    usable = [key for key in await store.keys.list() if name in (key.id, key.name) and not key.revoked_at]
    if not usable:
        raise NotFound(f"There is no key {name!r} in use.", remedy="`tintype keys list` shows all keys.")
    return usable[-1].id
