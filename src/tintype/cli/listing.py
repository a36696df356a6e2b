"""Tables that lose nothing: for people on a terminal, and tab-separated for whatever reads the output of a command.

A table that is squeezed into the 80 columns of a pipe cuts ids, and an id that is cut is of no use to the next command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tintype.processes import UNPRINTABLE, printable


def say(text: str) -> None:
    """Prints a text in which strangers may have had a word: of requests, names, errors."""
    typer.echo(printable(text))


def show_json(value: object) -> None:
    """Prints a value as JSON, with escapes for what a terminal would obey."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo(UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text))


def show_table(names: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Prints rows under names. Text is shown as it is: brackets in it are no markup."""
    if not sys.stdout.isatty():
        for row in (names, *rows):
            say("\t".join(" ".join(str(cell).split()) for cell in row))
        return
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    Console().print(table)
