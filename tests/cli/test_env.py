"""Lines that a shell takes in as they are, whatever is in the values."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.env import LINES
from tintype.errors import SettingsError

AWKWARD = """it's "$HOME" `id` \\ {"a": [1]} é"""


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_posix_shell_reads_the_value_that_was_written(shell: str) -> None:
    executable = shutil.which(shell)
    if executable is None:
        pytest.skip(f"needs {shell}")
    script = LINES["bash"]("VALUE", AWKWARD) + '\nprintf %s "$VALUE"'
    done = subprocess.run([executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == AWKWARD


def test_fish_and_powershell_escape_by_rules_of_their_own() -> None:
    assert LINES["fish"]("V", "it's \\ $x") == r"set -gx V 'it\'s \\ $x'"
    assert LINES["powershell"]("V", "it's \\ $x") == r"$env:V = 'it''s \ $x'"


def test_where_nothing_serves_it_says_what_to_do(tmp_path: object) -> None:
    result = CliRunner().invoke(app, ["env", "--data-dir", str(tmp_path)])
    assert isinstance(result.exception, SettingsError)
    assert "Start `tintype serve` first" in result.exception.message
    assert result.stdout == ""
