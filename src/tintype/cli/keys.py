"""`tintype keys`: who may call this server. A key's secret is shown once, when it is made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tintype.cli.data import DataDir, with_store
from tintype.cli.listing import say, show_table
from tintype.errors import BadRequest, NotFound
from tintype.installation import key_file, write_secret
from tintype.settings import Settings
from tintype.store import Scope

if TYPE_CHECKING:
    from tintype.store import Store

app = typer.Typer(
    no_args_is_help=True, help="Make, list and revoke API keys.",
    epilog="Example: [bold]export FAL_KEY=$(tintype keys create --name laptop)[/]",
)  # fmt: skip


@app.command(epilog="Example: [bold]export FAL_KEY=$(tintype keys create --name laptop)[/]")
def create(
    name: Annotated[str, typer.Option("--name", help="Whose it is: keys of one name see the same requests.")],
    scope: Annotated[
        Scope,
        typer.Option(
            help="ADMIN keys also see what others did, make and revoke keys over HTTP, switch the filter off."
        ),
    ] = Scope.API,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, alone, on standard output. Works before the first `serve` too."""

    if not name.strip():
        raise BadRequest("A key needs a name: whoever has a key of that name sees the same requests.")

    say(with_store(data_dir, lambda store, _: store.keys.create(name, scope), begins=True)[1])


@app.command("list", epilog="Example: [bold]tintype keys list[/]")
def list_keys(data_dir: DataDir = None) -> None:
    """List all keys, without their secrets."""

    rows = [
        (key.id, key.name, key.scope, when(key.created_at), when(key.last_used_at),
         Text("revoked", "red") if key.revoked_at else Text("valid", "green"))
        for key in with_store(data_dir, lambda store, _: store.keys.list())
    ]  # fmt: skip
    show_table(("id", "name", "scope", "made", "last used", "state"), rows)


@app.command(epilog="Example: [bold]tintype keys revoke laptop --keep-running[/]")
def revoke(
    name_or_id: Annotated[str, typer.Argument(help="Name or id of the key.")],
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave what was sent with it to its end, instead of cancelling it.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Revoke a key, and cancel what was sent with it; uploads, tokens and streams of it end within two seconds."""

    async def work(store: Store, _: Settings) -> str:
        keys = await store.keys.revoke(name_or_id)
        if not keys:
            ended = [known for known in await store.keys.list() if name_or_id in (known.id, known.name)]
            if ended:
                raise BadRequest(f"{name_or_id!r} was revoked already, at {when(ended[-1].revoked_at)}.")
            raise NotFound(f"There is no key {name_or_id!r}.", remedy="`tintype keys list` shows all keys.")
        count = 0 if keep_running else await store.requests.cancel_all([key.id for key in keys])
        return f"{keys[0].name}; {count} of its requests are cancelled"

    say(f"revoked {with_store(data_dir, work)}")


async def first_key(store: Store, settings: Settings) -> str | None:
    """Returns the key that `run` and the demo use, kept in DATA/key (mode 0600); makes it on the first start.

    None where the person manages keys alone (the file was removed, other keys exist).
    """
    path = key_file(settings.data_dir)
    if path.exists():
        return path.read_text().strip()
    if await store.keys.list():
        return None
    _, text = await store.keys.create("first start", Scope.ADMIN)
    write_secret(path, f"{text}\n".encode())
    return text


def when(at: float | None) -> str:
    """Writes a time as a person reads it in a table."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "-"
