"""Every command and program of the README, as a stranger would paste it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.pages import PYTHON, ROOT, SHELL, Page, folder, node, paste
from tests.support.server import Server

README = Page("README.md")


@pytest.fixture
def place(server: Server, photos: Path, tmp_path: Path) -> Path:
    return folder(server, photos, tmp_path)


def test_it_begins_with_two_commands_then_the_picture_then_how_to_use_it() -> None:
    text = (ROOT / "README.md").read_text()
    assert README.blocks[0] == ("", "make demo\nmake test\n")
    picture = text.index("![")
    assert text.index("make test\n```") < picture < text.index("\n## Use it\n") == text.index("\n## ")


def test_no_block_is_left_out() -> None:
    assert [name for name, _ in README.blocks] == ["", "sh", "python", "js", "sh", "sh", "sh"]


def test_a_program_unchanged(server: Server, place: Path) -> None:
    (place / "app.py").write_text("import fal_client; print(fal_client.upload(b'x', 'text/plain'))")
    command = README.block("sh", "app.py").replace("-- python", f"-- {sys.executable}")
    assert paste(command, SHELL, place, server).startswith(f"{server.origin}/cdn/files/")


def test_python(server: Server, place: Path) -> None:
    lines = paste(README.block("python"), PYTHON, place, server).splitlines()
    assert lines[-1].startswith(f"{server.origin}/cdn/files/")
    assert len(lines) == len(set(lines)) > 2  # each log line once, then the picture


def test_javascript(server: Server, place: Path) -> None:
    printed = paste(README.block("js"), node(), place, server, FAL_KEY=server.key)
    assert printed.startswith(f"{server.origin}/cdn/files/")


def test_curl(server: Server, place: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    printed = paste(README.block("sh", "curl"), SHELL, place, server)
    assert printed.count('"request_id"') == 2
    assert printed.count('"images"') == 1
    assert '"error' not in printed


@pytest.mark.long
def test_without_a_server(server: Server, place: Path) -> None:
    paste(README.block("sh", "generate"), SHELL, place, server)
    assert (place / "my-lora" / "lora.safetensors").stat().st_size > 10_000
    with Image.open(place / "picture.png") as picture:
        assert picture.size == (64, 64)


def test_the_commands_that_need_a_network_or_a_day_are_there() -> None:
    for command in re.findall(r"\.venv/bin/tintype (weights pull|serve)", README.block("sh", "HF_TOKEN")):
        subprocess.run([sys.executable, "-m", "tintype", *command.split(), "--help"], check=True, capture_output=True)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README.blocks[0][1], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
