from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from rich.text import Text
from tests.support.hostile import HOSTILE, is_harmless

from tintype.cli.listing import say, show_json, show_table

LONG = "0123456789" * 12


def test_in_a_pipe_rows_are_tab_separated_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("id", "state"), [(LONG, Text("valid", "green")), ("a\tb\nc", "FLUX.1 [dev]")])
    assert capsys.readouterr().out.splitlines() == ["id\tstate", f"{LONG}\tvalid", "a b c\tFLUX.1 [dev]"]


def test_on_a_narrow_terminal_long_ids_are_folded_not_cut() -> None:
    ours, theirs = pty.openpty()
    code = f"from tintype.cli.listing import show_table; show_table(('id',), [('{LONG}',), ('FLUX.1 [dev]',)])"
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=os.environ | {"COLUMNS": "60"}, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "FLUX.1 [dev]" in shown
    assert "".join(character for character in shown if character.isdigit()).count(LONG) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_strangers_name_commands_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("name",), [(text,)])
    say(text)
    show_json({text: text})
    assert is_harmless(capsys.readouterr().out)


def test_nor_a_real_one() -> None:
    ours, theirs = pty.openpty()
    code = f"from tintype.cli.listing import show_table; show_table(('name',), [(text,) for text in {HOSTILE!r}])"
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=os.environ | {"NO_COLOR": "1"}, check=True)
    shown = os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert "all is well" in shown
    assert is_harmless(re.sub("\x1b\\[[0-9;]*m", "", shown.replace("\r\n", "\n")))
