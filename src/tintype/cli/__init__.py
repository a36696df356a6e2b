"""The command line: `tintype serve`, `run`, `env`, `train`, `generate`, `watch`, `keys`, `requests`, and more.

Nothing here imports torch at the top: commands that compute import it when they run, so that `--help` is instant.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import typer
from rich.console import Console
from rich.markup import escape

from tintype.cli import datasets, doctor, keys, local, models, requests, webhooks, weights
from tintype.cli.env import env
from tintype.cli.gc import gc
from tintype.cli.licences import licences
from tintype.cli.open import open_pages
from tintype.cli.plan import plan
from tintype.cli.run import run
from tintype.cli.selftest import selftest
from tintype.cli.serve import serve
from tintype.cli.usage import forget, usage
from tintype.cli.watch import watch
from tintype.errors import TintypeError
from tintype.files.disk import is_full, storage_full
from tintype.processes import printable

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Your own fal for personalization: trains LoRAs on your hardware and generates images with them.",
    epilog="Example: [bold]tintype run -- python app.py[/] (a program written for fal, unchanged)\n\n"
    "Example: [bold]tintype train photos/ --trigger ohwx --out my-lora[/]",
)
app.command()(serve)
app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(run)
app.command("open", epilog="Example: [bold]tintype open --key laptop[/]")(open_pages)
app.command()(env)
app.command()(local.train)
app.command()(local.generate)
app.command(epilog="Example: [bold]tintype watch 5b1c0000[/]")(watch)
app.add_typer(keys.app, name="keys")
app.add_typer(requests.app, name="requests")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.add_typer(weights.app, name="weights")
app.command(epilog="Example: [bold]tintype usage --by month --days 365[/]")(usage)
app.command(epilog="Example: [bold]tintype forget 5b1c0000[/]")(forget)
app.command(epilog="Example: [bold]tintype doctor --data-dir ./tintype-data[/]")(doctor.doctor)
app.command(epilog="Example: [bold]tintype licences --json[/]")(licences)
app.command()(selftest)
app.command(epilog="Example: [bold]tintype plan --gpu 24GB --base flux[/]")(plan)
app.command(epilog="Example: [bold]tintype gc --data-dir ./tintype-data[/]")(gc)


def main() -> None:
    """Runs the command line; an error of ours is a sentence on stderr, never a traceback."""
    try:
        app()
    except SystemExit as end:
        if "torch" in sys.modules and isinstance(end.code, int):
            with suppress(BrokenPipeError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(end.code)  # compute libraries take a second to tidy up what the system takes back anyway
        raise
    except Exception as problem:
        if not isinstance(problem, TintypeError) and not is_full(problem):
            raise
        told = problem if isinstance(problem, TintypeError) else storage_full()
        Console(stderr=True).print(f"[bold red]error[/] {escape(printable(told.message))}", highlight=False)
        sys.exit(1)
