"""What becomes of a training that cannot be: a 422 with one detail, and a server that serves the next."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from tests.support.server import PORTRAIT_TRAINER, finish


def refusal(http: httpx.Client, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one detail of a 422, and the last status: sent, waited for, and fetched like a client does."""
    submitted = http.post(f"/queue/{PORTRAIT_TRAINER}", json={"trigger_phrase": "TOK", "steps": 1, **body})
    assert submitted.status_code == 200, submitted.text
    status = finish(http, submitted.json()["status_url"])
    answer = http.get(submitted.json()["response_url"])
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    assert answer.headers["x-fal-retryable"] == "false"
    return entry, status


def assert_serves(http: httpx.Client) -> None:
    """The next request is served by the very process that had the bad one, and at once."""
    entry, _ = refusal(http, {"images_data_url": f"data:application/zip;base64,{base64.b64encode(b'PK').decode()}"})
    assert entry["type"] == "invalid_archive"
