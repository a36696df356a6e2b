"""The promise to JavaScript programs: @fal-ai/client, unmodified, works by recipe E."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server

HERE = Path(__file__).parent / "js"


def test_the_javascript_client_draws_uploads_follows_and_understands_errors(server: Server) -> None:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").exists():
        pytest.skip("needs Node and `npm ci` in tests/acceptance/js (make test does it)")
    environment = os.environ | {"TINTYPE_ORIGIN": server.origin, "FAL_KEY": server.key}
    done = subprocess.run(
        [node, "subscribe.mjs"], cwd=HERE, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert set(seen["statuses"]) <= {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
    assert "COMPLETED" in seen["statuses"]
    fields = ["has_nsfw_concepts", "images", "prompt", "seed", "timings"]
    assert seen["outputFields"] == seen["streamedFields"] == fields
    assert seen["repeatedLogLines"] == 0
    assert seen["requestIdGiven"]
    assert seen["sameRequestId"]
    assert seen["uploaded"] == "Hello, World!"
    assert seen["ran"] == 1
    assert seen["error"]["name"] == "ValidationError"
    assert seen["error"]["status"] == 422
    assert "num_images" in seen["error"]["message"]
    assert seen["error"]["fields"] == 1
