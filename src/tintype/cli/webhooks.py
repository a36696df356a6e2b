"""`tintype webhooks`: what was sent to whom, sending it again, and a new key to sign with."""

from __future__ import annotations

from typing import Annotated

import typer

from tintype.cli.data import DataDir, with_store
from tintype.cli.keys import when
from tintype.cli.listing import say, show_table

app = typer.Typer(
    no_args_is_help=True, help="List and replay webhooks; change the key that signs them.",
    epilog="Example: [bold]tintype webhooks replay 5b1c0000[/]",
)  # fmt: skip

LATEST = 50


@app.command("list", epilog="Example: [bold]tintype webhooks list --request 5b1c0000-…[/]")
def list_webhooks(
    request_id: Annotated[str | None, typer.Option("--request", help="Only those of this request.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = LATEST,
    data_dir: DataDir = None,
) -> None:
    """List webhooks, newest first: their state, how often they were tried, and what the last try came to."""

    rows = [
        (str(delivery.id), delivery.request_id, delivery.url, delivery.state, str(delivery.tries),
         when(delivery.ended_at or delivery.due_at), delivery.answer)
        for delivery in with_store(data_dir, lambda store, _: store.webhooks.list(request_id, limit=limit))
    ]  # fmt: skip
    show_table(("id", "request", "url", "state", "tries", "ended or due", "last answer"), rows)


@app.command(epilog="Example: [bold]tintype webhooks replay 5b1c0000-…[/]")
def replay(
    request_id: Annotated[str, typer.Argument(help="Id of the request whose webhook is sent again.")],
    data_dir: DataDir = None,
) -> None:
    """Send a request's webhook again, with the same content; a running server does so within a second."""

    delivery = with_store(data_dir, lambda store, _: store.webhooks.replay(request_id))
    say(f"on its way to {delivery.url}")


@app.command("rotate-key", epilog="Example: [bold]tintype webhooks rotate-key[/]")
def rotate_key(
    now: Annotated[
        bool, typer.Option("--now", help="Sign with it at once and forget the others, as when one was stolen.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make a new signing key. It is published at once and signs from tomorrow on, when every receiver knows it."""

    key = with_store(data_dir, lambda store, _: store.webhooks.rotate_signing_key(at_once=now))
    say(f"{key.id} {'signs now' if now else 'is published now and signs in a day'}")
