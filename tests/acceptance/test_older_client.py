"""`fal.apps`, the queue client inside the `fal` package: it takes any 200 for the end and puts slashes behind URLs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, without
from tests.support.wiretap import tapping

HERE = Path(__file__).parent / "fal-package"
FIELDS = {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}


@pytest.fixture
def python() -> str:
    found = HERE / ".venv" / "bin" / "python"
    if not found.exists():
        pytest.skip(f"needs the fal package in an environment of its own, {HERE / '.venv'} (make test makes it)")
    return str(found)


def told(command: list[str], server: Server, photos: Path, **given: str) -> dict[str, Any]:
    """What the program printed."""
    environment = without("TINTYPE_", "FAL_") | given | {"PHOTOS": server.upload(photos.read_bytes())}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def check(seen: dict[str, Any]) -> None:
    assert set(seen["ran"]) == set(seen["fetched"]) == FIELDS
    assert set(seen["events"]) <= {"Queued", "InProgress"}
    kind, lines, error = seen["last"]
    assert (kind, error) == ("Completed", None)
    assert lines
    assert set(json.loads(seen["streamed"].removeprefix("data: "))) == FIELDS

    assert seen["cancelled late"][0] == 400
    assert seen["invalid"][0] == 422
    assert seen["cancelled"][0] == 499
    status, told = seen["failed"]
    assert status == 422
    assert "invalid_archive" in told
    assert "archive" in seen["error"]


def test_the_client_inside_the_fal_package_works(server: Server, photos: Path, python: str) -> None:
    with tapping(server.origin) as tap:
        check(told([python, "program.py"], server, photos, FAL_KEY=server.key, TINTYPE_ORIGIN=tap.origin))
    asked = {exchange.line.split("?")[0].rsplit("/requests/")[0] for exchange in tap.heard}
    assert asked == {
        "POST /queue/fal-ai/flux-lora",
        "GET /queue/fal-ai/flux-lora",
        "PUT /queue/fal-ai/flux-lora",
        "POST /run/fal-ai/flux-lora/stream",
        "POST /queue/fal-ai/flux-lora-portrait-trainer",
        "GET /queue/fal-ai/flux-lora-portrait-trainer",
        "PUT /queue/fal-ai/flux-lora-portrait-trainer",
    }
    for exchange in tap.heard:
        if exchange.method == "GET":
            assert exchange.target.split("?")[0].endswith("/")


def test_as_it_is_behind_run(server: Server, photos: Path, python: str) -> None:
    """In a Python that has never heard of tintype."""
    run = [sys.executable, "-m", "tintype", "run", "--data-dir", str(server.data_dir), "--"]
    check(told([*run, python, "program.py"], server, photos, FAL_KEY="0123:somebodys-own"))
