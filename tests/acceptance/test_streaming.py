"""Event streams as the real clients read them: every line once, no character torn apart, one result."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from tests.support.javascript import node
from tests.support.server import Server
from tests.support.wiretap import Wiretap

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# The log names fields that an endpoint does not know: here, of every width in UTF-8.
FIELD = "größe_шаг_写真_🖼"
DRAWING = {"prompt": "a portrait of a person", "num_inference_steps": 8, "image_size": "square", "seed": 3, FIELD: 1}
FIELDS = {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}


def test_the_javascript_client_follows_a_stream(server: Server, tap: Wiretap) -> None:
    seen = node("streaming", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, INPUT=json.dumps(DRAWING))
    last = seen["updates"][-1]
    assert last["status"] == "COMPLETED"
    lines = [(line["timestamp"], line["message"]) for line in last["logs"]]
    assert len(lines) == len(set(lines)) > 0
    assert any(FIELD in message for _, message in lines)
    assert set(seen["data"]) == FIELDS

    base = f"/queue/fal-ai/flux-lora/requests/{seen['requestId']}"
    assert tap.lines == [
        "POST /queue/fal-ai/flux-lora",
        f"GET {base}/status/stream?logs=1",
        f"GET {base}",
        "POST /run/fal-ai/flux-lora/stream",
    ]
    assert set(seen["events"][-1]) == set(seen["done"]) == FIELDS
    assert any(FIELD in line["message"] for event in seen["events"][:-1] for line in event["logs"])


def test_the_python_client_draws_by_a_stream(fal: ModuleType) -> None:
    events = list(fal.stream("fal-ai/flux-lora", DRAWING))
    assert set(events[-1]) == FIELDS
    messages = [line["message"] for event in events[:-1] for line in event["logs"]]
    assert any(FIELD in message for message in messages)
    assert len(messages) == len(set(messages))
