"""The calls of docs/platform.md and docs/mcp.md, as a stranger would paste them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import SHELL, Page, folder, paste
from tests.support.server import Server

PLATFORM, MCP = Page("docs/platform.md"), Page("docs/mcp.md")


@pytest.fixture
def place(server: Server, photos: Path, tmp_path: Path) -> Path:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    return folder(server, photos, tmp_path)


def answers(printed: str) -> list[dict[str, Any]]:
    """The JSON objects that stand one behind the other."""
    found, reader, at = [], json.JSONDecoder(), 0
    while at < len(printed):
        value, at = reader.raw_decode(printed, at)
        found.append(value)
    return found


def test_a_look_at_each_route_and_an_estimate(server: Server, place: Path) -> None:
    looks = PLATFORM.block("sh", "by-endpoint") + PLATFORM.block("sh", "estimate_type")
    models, prices, usage, analytics, requests, key, estimate = answers(
        paste(looks, SHELL, place, server).replace("\n", "")
    )
    assert {model["metadata"]["kind"] for model in models["models"]} == {"training"}
    assert [price["unit_price"] for price in prices["prices"]] == [0.035, 0.03]
    assert {"summary", "has_more"} <= set(usage)
    assert "summary" in analytics
    assert "items" in requests
    assert key["key"] == f"{key['key_id']}:{key['key_secret']}"
    assert (estimate["total_cost"], estimate["estimates"][0]["units"]) == (0.14, 4.0)


def test_the_mcp_server_answers(server: Server, place: Path) -> None:
    (answer,) = answers(paste(MCP.block("sh", "recommend_model"), SHELL, place, server))
    recommended = answer["result"]["structuredContent"]["models"]
    assert recommended[0]["endpoint_id"] == "fal-ai/flux-lora-portrait-trainer"
