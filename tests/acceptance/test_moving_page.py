"""docs/moving-from-fal.md, to the letter: programs as they were written for fal, and one command before them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.javascript import node_here
from tests.support.pages import SHELL, Page, folder, here, paste
from tests.support.server import Server

MANUAL = Page("docs/moving-from-fal.md")


@pytest.fixture
def place(server: Server, photos: Path, tmp_path: Path) -> Path:
    return folder(server, photos, tmp_path)


def test_no_block_is_left_out() -> None:
    assert [language for language, _ in MANUAL.blocks] == ["python", "sh", "js", "sh"]


def test_the_programs_run_unchanged_behind_one_command(server: Server, place: Path) -> None:
    node_here()
    (place / "app.py").write_text(here(MANUAL.block("python"), server))
    (place / "app.mjs").write_text(MANUAL.block("js"))
    command = MANUAL.block("sh", "tintype run").replace("-- python ", f"-- {sys.executable} ")
    from_python, from_javascript = paste(command, SHELL, place, server).split()
    assert from_python.startswith(f"{server.origin}/cdn/files/")
    assert from_javascript.startswith(f"{server.origin}/cdn/files/")


def test_the_commands_that_need_a_network_are_there() -> None:
    for command in re.findall(r"\.venv/bin/tintype (weights pull)", MANUAL.block("sh", "weights")):
        subprocess.run([sys.executable, "-m", "tintype", *command.split(), "--help"], check=True, capture_output=True)
