"""Tables that lose nothing: for people on a terminal, and tab-separated for whatever reads the output of a command.

A table that is squeezed into the 80 columns of a pipe cuts ids, and an id that is cut is of no use to the next command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_table(names: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Prints rows under names. Text is shown as it is: brackets in it are no markup."""
    if not sys.stdout.isatty():
        for row in (names, *rows):
            typer.echo("\t".join(" ".join(str(cell).split()) for cell in row))
        return
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    Console().print(table)
