"""Programs for fal's own JavaScript client, run by Node: `js/<name>.mjs`, which prints one JSON object at its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1] / "acceptance" / "js"


def node_here() -> str:
    """Node, with fal's client for it."""
    executable = shutil.which("node")
    if executable is None or not (HERE / "node_modules").exists():
        pytest.skip("needs Node and `npm ci` in tests/acceptance/js (make test does it)")
    return executable


def node(program: str, **given: str) -> dict[str, Any]:
    """What a program printed; `given` are variables of its environment."""
    done = subprocess.run(
        [node_here(), f"{program}.mjs"], cwd=HERE, env=os.environ | given, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen
