"""`tintype doctor`: is everything here that training needs? One line each, with what to do where it is not."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tintype.checks import all_findings
from tintype.cli.data import DataDir
from tintype.cli.listing import show_table
from tintype.settings import load_settings


def doctor(
    data_dir: DataDir = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to look at (default 8787).", show_default=False)
    ] = None,
) -> None:
    """Check Python, torch, GPU, memory, disk, files, weights and port; each says what to do about what is amiss."""
    settings = load_settings(data_dir=data_dir, port=port)
    findings = all_findings(settings)
    marks = {True: Text("ok", "green"), False: Text("no", "red")}
    rows = [(marks[found.good], found.name, found.what, found.remedy * (not found.good)) for found in findings]
    show_table(("", "what", "found", "what to do"), rows)
    if not all(found.good for found in findings):
        raise typer.Exit(1)
