"""Whoever asks a command how it is used is shown it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tintype.cli import app


def commands(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    parts: dict[str, Any] = getattr(command, "commands", {})  # a group's
    for name, part in parts.items():
        yield from commands(part, *names, name)


@pytest.mark.parametrize("names", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_has_an_example(names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*names, "--help"]).output
    assert "Example: " in shown
    assert " ".join(("tintype", *names)) in shown
