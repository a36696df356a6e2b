"""Every command and program of the README, as a stranger would paste it; only address, paths and steps are replaced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.conftest import Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SECONDS = 300


def block(language: str, *words: str) -> str:
    """The one block of a language that holds all the words."""
    found = [text for name, text in BLOCKS if name == language and all(word in text for word in words)]
    assert len(found) == 1, (language, words, len(found))
    return found[0]


@pytest.fixture
def place(server: Server, photos: Path, tmp_path: Path) -> Path:
    """A folder as the README assumes it: photos.zip, and the installation beside it."""
    shutil.copy(photos, tmp_path / "photos.zip")
    (tmp_path / "tintype-data").symlink_to(server.data_dir)
    return tmp_path


def paste(text: str, command: list[str], place: Path, server: Server) -> str:
    """Runs a block; returns what it printed."""
    text = text.replace("127.0.0.1:8787", server.origin.removeprefix("http://"))
    text = re.sub(r"\.venv/bin/tintype\b", f"{sys.executable} -m tintype", text)
    text = re.sub(r"(\"steps\": |--steps )500", r"\g<1>2", text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TINTYPE_", "FAL_"))}
    environment = kept | {"TINTYPE_FLUX_BASE": "miniature"}
    if command[0].endswith("node"):
        environment["FAL_KEY"] = server.key
    done = subprocess.run(
        command, input=text, cwd=place, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" or "%" in done.stderr, done.stderr  # a progress bar is all that may be there
    return done.stdout


def test_no_block_is_left_out() -> None:
    assert [name for name, _ in BLOCKS] == ["", "python", "js", "sh", "sh", "sh"]


def test_python(server: Server, place: Path) -> None:
    lines = paste(block("python"), [sys.executable, "-"], place, server).splitlines()
    assert lines[-1].startswith(f"{server.origin}/cdn/files/")
    assert len(lines) == len(set(lines)) > 2  # each log line once, then the picture


def test_javascript(server: Server, place: Path) -> None:
    node, packages = shutil.which("node"), Path(__file__).parent / "js" / "node_modules"
    if node is None or not packages.exists():
        pytest.skip("needs Node and `npm ci` in tests/acceptance/js (make test does it)")
    (place / "node_modules").symlink_to(packages)
    printed = paste(block("js"), [node, "--input-type=module", "-"], place, server)
    assert printed.startswith(f"{server.origin}/cdn/files/")


def test_curl(server: Server, place: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    printed = paste(block("sh", "curl"), ["bash", "-euo", "pipefail"], place, server)
    assert printed.count('"request_id"') == 2
    assert printed.count('"images"') == 1
    assert '"error' not in printed


@pytest.mark.long
def test_without_a_server(server: Server, place: Path) -> None:
    paste(block("sh", "generate"), ["bash", "-euo", "pipefail"], place, server)
    assert (place / "my-lora" / "lora.safetensors").stat().st_size > 10_000
    with Image.open(place / "picture.png") as picture:
        assert picture.size == (64, 64)


def test_the_commands_that_need_a_network_or_a_day_are_there() -> None:
    for command in re.findall(r"\.venv/bin/tintype (weights pull|serve)", block("sh", "HF_TOKEN")):
        subprocess.run([sys.executable, "-m", "tintype", *command.split(), "--help"], check=True, capture_output=True)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", block(""), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
