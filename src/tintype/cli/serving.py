"""`tintype serve` and `tintype demo` as commands: options in, settings out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tintype.cli.data import DataDir
from tintype.settings import load_settings

DEMO_STEPS = 500
DEMO_SUBJECT = 2026


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


def demo(
    out: Annotated[Path, typer.Option(help="Where the pictures go; emptied first.")] = Path("demo-output"),
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Training steps.")] = DEMO_STEPS,
    subject: Annotated[int, typer.Option(min=0, help="Which subject of Portrait World to learn.")] = DEMO_SUBJECT,
) -> None:
    """Train a portrait LoRA through fal's own client against a server of your own, and draw with it."""
    from tintype.cli.demo import run_demo

    run_demo(out, steps=steps, subject=subject)
