"""fal's proxy protocol: everything goes to one URL, and a header says where it was meant to go (recipe G)."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import httpx

from tests.support.javascript import node
from tests.support.server import Server
from tests.support.wiretap import Wiretap

DRAWING = {"prompt": "a portrait of a person", "num_inference_steps": 4, "image_size": "square", "seed": 3, "größe": 1}


def test_the_javascript_client_subscribes_uploads_and_runs(server: Server, tap: Wiretap) -> None:
    seen = node("subscribe", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, RECIPE="G")
    assert seen["sameRequestId"]
    assert seen["uploaded"] == "Hello, World!"
    assert seen["ran"] == 1
    direct = [exchange for exchange in tap.heard if exchange.target != "/fal/proxy"]
    assert {exchange.method for exchange in direct} == {"PUT", "GET"}  # the bytes of the file, there and back
    meant = [exchange.headers["x-fal-target-url"] for exchange in tap.heard if exchange not in direct]
    assert {urlsplit(url).hostname for url in meant} == {"queue.fal.run", "fal.run", "rest.fal.ai"}


def test_the_javascript_client_streams(server: Server, tap: Wiretap) -> None:
    seen = node("streaming", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, RECIPE="G", INPUT=json.dumps(DRAWING))
    assert seen["updates"][-1]["status"] == "COMPLETED"
    assert any("größe" in line["message"] for line in seen["updates"][-1]["logs"])
    assert seen["done"]["seed"] == DRAWING["seed"]
    assert {exchange.target for exchange in tap.heard} == {"/fal/proxy"}


def test_a_browser_may_ask_from_an_https_page_of_this_machine(server: Server) -> None:
    asked = {
        "Origin": "https://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-fal-target-url,x-fal-queue-priority",
        "Access-Control-Request-Private-Network": "true",
    }
    allowed = httpx.options(f"{server.origin}/fal/proxy", headers=asked, trust_env=False)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == "https://localhost:3000"
    assert allowed.headers["access-control-allow-private-network"] == "true"
    listed = set(allowed.headers["access-control-allow-headers"].split(", "))
    assert listed >= set(asked["Access-Control-Request-Headers"].split(","))
    with server.http() as http:
        answer = http.get("/queue/a/b/requests/none", headers={"Origin": "https://localhost:3000"})
    assert "x-fal-request-id" in answer.headers["access-control-expose-headers"]
