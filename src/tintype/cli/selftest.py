"""`tintype selftest`: does what trains and generates here work on this machine, and how fast?"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from tintype.cli.listing import say, show_table
from tintype.errors import BadRequest
from tintype.files.disk import write_file
from tintype.models.registry import family_spec, family_specs
from tintype.settings import load_settings

if TYPE_CHECKING:
    from tintype.selftest.result import Result

_STYLES = {"passed": "green", "failed": "red", "not run": "yellow"}


def selftest(
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="File for every figure, as JSON.", show_default=False)
    ] = None,
    base: Annotated[str | None, typer.Option(help="One base model: flux or ideogram4; default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and steps.")] = False,
) -> None:
    """Train and generate a little with each base model, and compare: pictures, losses, checkpoints, LoRA files.

    Neither table nor file says whose machine it is: no paths, no names, nothing of the environment.

    Example: [bold]tintype selftest --json selftest.json[/]

    Example: [bold]TINTYPE_DEVICE=cuda:1 tintype selftest --base flux --quick[/]
    """
    specs = family_specs() if base is None else [family_spec(base)]
    settings, began = load_settings(), time.perf_counter()
    if json_file is not None:
        try:
            write_file(json_file, "{}")  # where that cannot be, it is said before the minutes, not after
        except OSError as problem:
            raise BadRequest(f"{json_file} cannot be written ({problem.strerror}).", remedy="Name another.") from None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tintype.selftest.checked_base import QUICK, WHOLE
        from tintype.selftest.selftest import Selftest, machine

        logging.getLogger("diffusers").setLevel(logging.ERROR)
        extent = QUICK if quick else WHOLE
        results = _watched(Selftest(settings, specs, Path(folder), extent))
        told = machine(settings)
    counts = Counter(result.outcome.value for result in results)
    seconds = time.perf_counter() - began
    if json_file is not None:
        kept = {"extent": extent.name, "seconds": round(seconds, 1), "machine": told, "counts": counts}
        write_file(json_file, json.dumps({**kept, "results": [result.to_json() for result in results]}, indent=1))
    show_table(("", "base", "check", "seconds", "found", "what to do"), [_row(result) for result in results])
    say(", ".join(f"{counts[name]} {name}" for name in _STYLES) + f"; {seconds:.0f} s on {_named(told)}")
    if counts["failed"]:
        raise typer.Exit(1)


def _watched(test: Any) -> list[Result]:
    """Runs all checks under a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, results = bar.add_task("", total=test.count), []
        for result in test.results(lambda name: bar.update(task, description=name)):
            results.append(result)
            bar.advance(task)
    return results


def _row(result: Result) -> tuple[str | Text, ...]:
    outcome = result.outcome.value
    mark = Text(outcome, _STYLES[outcome])
    return mark, result.base, result.check, f"{result.seconds:.1f}", result.what, result.remedy


def _named(told: dict[str, Any]) -> str:
    where = told.get("gpu") or f"{told['system']}, {told['threads']} threads"
    return f"{where}, torch {told['libraries']['torch']}, tintype {told['tintype']}"
