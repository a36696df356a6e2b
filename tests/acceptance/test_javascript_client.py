"""The promise to JavaScript programs: @fal-ai/client, unmodified, works by recipe E."""

from __future__ import annotations

from tests.support.javascript import node
from tests.support.server import Server


def test_the_javascript_client_draws_follows_and_uploads(server: Server) -> None:
    seen = node("subscribe", TINTYPE_ORIGIN=server.origin, FAL_KEY=server.key)
    assert set(seen["statuses"]) <= {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
    assert "COMPLETED" in seen["statuses"]
    assert seen["outputFields"] == ["has_nsfw_concepts", "images", "prompt", "seed", "timings"]
    assert seen["requestIdGiven"]
    assert seen["sameRequestId"]
    assert seen["uploaded"] == "Hello, World!"
    assert seen["ran"] == 1
