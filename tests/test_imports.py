"""The contracts about imports hold, and each of them catches an import that breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = "Rooms import only what lies below them, and none beside them"
TORCH = "The control half never imports torch, nor anything that does"
COMMANDS = "The command line imports the compute half only where it computes"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the source with its contracts."""
    shutil.copytree(
        ROOT / "src" / "tintype", tmp_path / "src" / "tintype", ignore=shutil.ignore_patterns("weights", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path / "src" / "tintype"


def contracts(package: Path) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=package.parents[1], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_contracts_hold(package: Path) -> None:
    status, told = contracts(package)
    assert status == 0, told
    assert "3 kept, 0 broken" in told


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("lora/pairs.py", "from tintype.models import registry", LAYERS),
        ("store/leases.py", "if TYPE_CHECKING:\n    from tintype.web import app", LAYERS),
        ("web/status.py", "from tintype.worker import messages", LAYERS),
        ("errors.py", "def late() -> None:\n    from tintype import settings", LAYERS),
        ("new_room.py", "from tintype import errors", LAYERS),
        ("files/objects.py", "from safetensors import torch as _\nimport torch", TORCH),
        ("cli/keys.py", "import torch", COMMANDS),
    ],
)
def test_a_wrong_import_is_caught(package: Path, module: str, line: str, contract: str) -> None:
    with (package / module).open("a") as file:
        file.write(f"\nfrom typing import TYPE_CHECKING\n{line}\n")
    status, told = contracts(package)
    assert status == 1, told
    assert f"{contract} BROKEN" in told or ("not listed as layers" in told and module == "new_room.py"), told
