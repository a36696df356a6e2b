"""What `tintype run` cannot start leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.run import NOT_FOUND


def test_a_program_that_is_not_there_is_named_before_anything_is_made(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    ran = CliRunner().invoke(app, ["run", "--data-dir", str(data_dir), "--", "nosuchprog"])
    assert ran.exit_code == NOT_FOUND
    assert "nosuchprog: there is no such program" in ran.output
    assert not data_dir.exists()
