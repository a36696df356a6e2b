"""The programs and commands of a page, pasted as a stranger would; only address, paths and steps are replaced."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.javascript import node_here
from tests.support.server import Server, without

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-"]
SHELL = ["bash", "-euo", "pipefail"]
SECONDS = 300
ACCEPTANCE = ROOT / "tests" / "acceptance"
PAGES = ACCEPTANCE / "pages"  # the programs that fal prints on the pages of its endpoints
KEY = (PAGES / "flux-lora-portrait-trainer" / "key.sh").read_text()


class Page:
    """A page of the manual, and its blocks of code as (language, text)."""

    def __init__(self, path: str = "", *, text: str = "") -> None:
        self.blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text or (ROOT / path).read_text(), re.MULTILINE | re.DOTALL)

    def block(self, language: str, *words: str) -> str:
        """The one block of a language that holds all the words."""
        found = [text for name, text in self.blocks if name == language and all(word in text for word in words)]
        assert len(found) == 1, (language, words, len(found))
        return str(found[0])


def folder(server: Server, photos: Path, place: Path) -> Path:
    """A folder as the pages assume it: photos.zip, the installation, and what a JavaScript project has, beside it."""
    shutil.copy(photos, place / "photos.zip")
    (place / "tintype-data").symlink_to(server.data_dir)
    (place / "node_modules").symlink_to(ACCEPTANCE / "js" / "node_modules")
    return place


def node() -> list[str]:
    """What reads a program for Node; skips where there is none."""
    return [node_here(), "--input-type=module", "-"]


def paste(text: str, command: list[str], place: Path, server: Server, seconds: float = SECONDS, **given: str) -> str:
    """Runs a block in a folder; returns what it printed."""
    environment = without("TINTYPE_", "FAL_") | {"TINTYPE_FLUX_BASE": "miniature"} | given
    done = subprocess.run(
        command, input=here(text, server), cwd=place, env=environment, capture_output=True, text=True, timeout=seconds,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" or "%" in done.stderr, done.stderr  # a progress bar is all that may be there
    return done.stdout


def paste_as_printed(
    program: str, command: list[str], place: Path, server: Server, seconds: float = 3 * SECONDS, **given: str
) -> str:
    """Runs a program of fal's pages by `tintype run`, after their line for the key; returns what it printed."""
    script = KEY + 'exec "$@"'
    turned = [sys.executable, "-m", "tintype", "run", "--data-dir", str(server.data_dir), "--", *command]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *turned], input=program, cwd=place, env=without("TINTYPE_", "FAL_") | given,
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def here(text: str, server: Server) -> str:
    """A block with this server's address, this source's commands, and two steps of training."""
    text = text.replace("127.0.0.1:8787", server.origin.removeprefix("http://"))
    text = re.sub(r"\.venv/bin/tintype\b", f"{sys.executable} -m tintype", text)
    return re.sub(r"(\"?steps\"?: |--steps )500", r"\g<1>2", text)
