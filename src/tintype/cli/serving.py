"""`tintype serve` as a command: options in, settings out."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tintype.cli.data import DataDir
from tintype.settings import load_settings


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1).", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (default 8787; 0 picks one).", show_default=False)
    ] = None,
    tls_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="A second port, behind TLS, which FAL_RUN_HOST needs.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    public_url: Annotated[str | None, typer.Option(help="Origin that clients see behind a proxy.")] = None,
    database: Annotated[str | None, typer.Option(help="postgresql://… instead of SQLite.")] = None,
    storage: Annotated[str | None, typer.Option(help="s3://bucket/prefix or a folder.")] = None,
    auth: Annotated[Literal["on", "off"] | None, typer.Option(help="Whether a key is asked for.")] = None,
    launcher: Annotated[Literal["local"], typer.Option(help="Where supervisors run.")] = "local",
    while_in_use: Annotated[bool, typer.Option("--while-in-use", hidden=True)] = False,
) -> None:
    """Serve the HTTP API here, with a supervisor for each device. Ctrl-C drains: nothing that was accepted is lost.

    Example: [bold]tintype serve --port 8787 --data-dir ./tintype-data[/]
    """
    from tintype.cli.serve import serve as run

    settings = load_settings(
        host=host,
        port=port,
        tls_port=tls_port,
        data_dir=data_dir,
        public_url=public_url,
        database=database,
        storage=storage,
        auth=auth,
    )
    assert launcher == "local"
    raise typer.Exit(run(settings, while_in_use=while_in_use))
