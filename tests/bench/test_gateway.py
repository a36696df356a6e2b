"""The bench of the web process measures what it says, on the web process alone and for moments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gateway


def test_polls_and_submits_are_answered_counted_and_told_what_they_cost(tmp_path: Path) -> None:
    with gateway.serving(tmp_path, 0.3, alone=True) as served:
        request_id = served.store(gateway.running_request)
        status = f"{gateway.TRAINER}/requests/{request_id}/status?logs="
        tries = (served.load(served.head("GET", status + "true")) for _ in range(20))
        polls = next(answered for answered in tries if answered["codes"])  # moments may pass on a busy machine
        assert polls["codes"].keys() == {"202"}
        assert polls["bytes"] > served.load(served.head("GET", status + "false"))["bytes"] + gateway.LINES * 100
        bodies = [json.dumps({"images_data_url": "https://example.com/a.zip", "steps": 20 + n}) for n in range(20)]
        submits = served.load(served.head("POST", gateway.TRAINER), bodies=bodies, connections=2, duration=30)
        assert submits["codes"] == {"200": 20}
        for figures in (polls, submits):
            assert 0 < figures["p50_ms"] <= figures["p99_ms"]
            assert figures["rss_mb"] > 10
        gateway.finish_many(tmp_path / "tintype.db", 300)
        assert len(served.store(lambda store: store.requests.list(limit=1000))) == 1 + 20 + 300
        served.key = "nobody:nothing"
        with pytest.raises(SystemExit, match="401"):
            served.load(served.head("GET", status + "true"))
