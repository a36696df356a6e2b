"""Which URLs the real clients build for every kind of endpoint id, and that each of them is understood (WIRE 1.6)."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import fal_client
import pytest
from fal_client.client import FalClientHTTPError

from tests.support.javascript import node
from tests.support.server import Server
from tests.support.wiretap import Exchange, Wiretap
from tintype import catalog

pytestmark = [
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DRAWING = {"prompt": "a portrait of a person", "num_inference_steps": 1, "image_size": "square", "seed": 1}


@dataclass(frozen=True)
class Id:
    """An endpoint id, and the two segments that both clients keep of it when they ask for a request."""

    full: str
    base: str


IDS = (
    Id("ideogram/v4/trainer", "ideogram/v4"),
    Id("fal-ai/ideogram-v4-trainer", "fal-ai/ideogram-v4-trainer"),
    Id("fal-ai/flux-lora-portrait-trainer", "fal-ai/flux-lora-portrait-trainer"),
    Id("fal-ai/ideogram/custom-models/generate", "fal-ai/ideogram"),
    Id("fal-ai/ideogram/custom-models", "fal-ai/ideogram"),
    Id("fal-ai/ideogram/custom-models/train", "fal-ai/ideogram"),
    Id("ideogram/v4/lora", "ideogram/v4"),
    Id("fal-ai/flux-lora", "fal-ai/flux-lora"),
    Id("workflows/someone/some/flow", "workflows/someone/some"),
)
NAMED = [pytest.param(each, id=each.full) for each in IDS]


def unaccepted(each: Id) -> int:
    """The answer to an empty input: refused where the endpoint is known, not found elsewhere."""
    return 422 if catalog.find(each.full) else 404


@pytest.fixture(scope="module")
def drawn(server: Server) -> str:
    """The id of a request that has a result."""
    with server.http() as http:
        answer = http.post("/run/fal-ai/flux-lora", json=DRAWING).raise_for_status()
        return str(answer.headers["x-fal-request-id"])


def asked_in_python(each: Id, drawn: str) -> list[tuple[str, int]]:
    """What Python's calls by id ask for: run, submit, status, result and cancel."""
    base = f"/queue/{each.base}/requests/{drawn}"
    return [
        (f"POST /run/{each.full}", unaccepted(each)),
        (f"POST /queue/{each.full}", unaccepted(each)),
        (f"GET {base}/status?logs=true", 200),
        (f"GET {base}/status?logs=false", 200),
        (f"GET {base}", 200),
        (f"PUT {base}/cancel", 400),
    ]


def heard(tap: Wiretap) -> list[tuple[str, int]]:
    return [(meant(exchange), exchange.status) for exchange in tap.heard]


def meant(exchange: Exchange) -> str:
    """What was asked for, by prefix; by recipe G the URL of fal's that it would have been."""
    target = urlsplit(exchange.headers.get("x-fal-target-url", exchange.target))
    prefix = {"queue.fal.run": "/queue", "fal.run": "/run", None: ""}[target.hostname]
    return f"{exchange.method} {prefix}{target._replace(scheme='', netloc='').geturl()}"


@pytest.mark.parametrize("each", NAMED)
def test_the_python_client_is_understood(each: Id, turned: Wiretap, drawn: str, server: Server) -> None:
    client = fal_client.SyncClient(key=server.key)
    for call in (client.run, client.submit):
        with pytest.raises(FalClientHTTPError):
            call(each.full, {})
    assert isinstance(client.status(each.full, drawn, with_logs=True), fal_client.Completed)
    assert client.result(each.full, drawn)["seed"] == DRAWING["seed"]
    with pytest.raises(FalClientHTTPError):
        client.cancel(each.full, drawn)
    assert heard(turned) == asked_in_python(each, drawn)


def test_the_asynchronous_client_asks_for_the_same_and_is_never_redirected(
    turned: Wiretap, drawn: str, server: Server
) -> None:
    async def ask() -> None:
        client = fal_client.AsyncClient(key=server.key)
        for each in IDS:
            for call in (client.run, client.submit):
                with suppress(FalClientHTTPError):
                    await call(each.full, {})
            await client.status(each.full, drawn, with_logs=True)
            await client.result(each.full, drawn)
            with suppress(FalClientHTTPError):
                await client.cancel(each.full, drawn)
        await (await client._client).aclose()

    asyncio.run(ask())
    assert heard(turned) == [line for each in IDS for line in asked_in_python(each, drawn)]


def test_a_live_handle_follows_the_urls_it_was_given(turned: Wiretap, server: Server) -> None:
    handle = fal_client.SyncClient(key=server.key).submit("fal-ai/flux-lora", DRAWING)
    assert handle.get()["seed"] == DRAWING["seed"]
    base = f"/queue/fal-ai/flux-lora/requests/{handle.request_id}"
    assert set(turned.lines) == {"POST /queue/fal-ai/flux-lora", f"GET {base}/status?logs=false", f"GET {base}"}
    assert {exchange.status for exchange in turned.heard} <= {200, 202}


def seen_in_javascript(tap: Wiretap, server: Server, drawn: str, recipe: str) -> dict[str, Any]:
    given = {"IDS": " ".join(each.full for each in IDS), "REQUEST_ID": drawn, "INPUT": json.dumps(DRAWING)}
    return node("paths", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, RECIPE=recipe, **given)


def asked_in_javascript(each: Id, drawn: str) -> list[tuple[str, int]]:
    base = f"/queue/{each.base}/requests/{drawn}"
    return [
        (f"POST /queue/{each.full}", unaccepted(each)),
        (f"GET {base}/status?logs=0", 200),
        (f"GET {base}/status?logs=1", 200),
        (f"GET {base}", 200),
        (f"PUT {base}/cancel", 400),
        (f"POST /run/{each.full}", unaccepted(each)),
    ]


@pytest.mark.parametrize("recipe", ["E", "F", "G"])
def test_the_javascript_client_is_understood(recipe: str, tap: Wiretap, drawn: str, server: Server) -> None:
    seen = seen_in_javascript(tap, server, drawn, recipe)
    for call in ("subscribed", "ran", "asked"):
        assert seen[call]["value"]["data"]["seed"] == DRAWING["seed"], call
    expected = [line for each in IDS for line in asked_in_javascript(each, drawn)]
    assert heard(tap)[: len(expected)] == expected
    assert {exchange.status for exchange in tap.heard[len(expected) :]} <= {200, 202}
    for each in IDS:
        submitted, status, with_logs, result, cancelled, ran = seen[each.full]
        assert submitted["error"]["status"] == ran["error"]["status"] == unaccepted(each)
        assert status["value"]["status"] == with_logs["value"]["status"] == "COMPLETED"
        assert status["value"]["logs"] == []
        assert with_logs["value"]["logs"]
        assert result["value"]["requestId"] == drawn
        assert cancelled["error"]["status"] == 400


@pytest.mark.parametrize("base", ["fal-ai/flux-lora", "fal-ai/ideogram/custom-models/generate", "ideogram/v4/trainer"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_other_form_of_a_requests_url_means_the_same(server: Server, drawn: str, base: str, slash: str) -> None:
    """What older clients, generated ones and people send: the full id, a slash at the end, `/response`."""
    with server.http() as http:
        for face in ("/queue", ""):
            request = f"{face}/{base}/requests/{drawn}"
            result = http.get(request + slash)
            assert result.status_code == 200
            assert http.get(f"{request}/response{slash}").json() == result.json()
            for logs, lines in (("", False), ("?logs=0", False), ("?logs=1", True), ("?logs=true", True)):
                status = http.get(f"{request}/status{slash}{logs}")
                assert status.status_code == 200
                assert bool(status.json()["logs"]) is lines
            assert http.put(f"{request}/cancel{slash}").status_code == 400
