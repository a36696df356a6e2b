from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype import errors
from tintype.catalog import Kind
from tintype.store.records import Worker
from tintype.web.pages import current


@pytest.fixture
def anyone(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


def lane(id_: str, kind: Kind, seen_at: float, device: str = "cpu") -> Worker:
    return Worker(id_, kind, device, "here", os.getpid(), "boot", seen_at, "idle")


def test_health_needs_no_key_and_no_name(anyone: httpx.Client) -> None:
    for path in ("/health", "/health/"):
        answer = anyone.get(path, headers={"host": "10.0.0.7:8787"})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert anyone.head("/health").content == b""


def test_ready_lists_the_lanes_while_they_are_heard_of(
    anyone: httpx.Client, server: WebServer, client: httpx.Client
) -> None:
    server.call(lambda store: store.workers.announce(lane("test-training", "training", 0)))
    server.call(lambda store: store.workers.announce(lane("test-inference", "inference", 0)))
    answer = anyone.get("/ready")
    assert answer.status_code == 200, answer.text
    assert [entry["lane"] for entry in answer.json()["lanes"]] == ["inference", "training"]


def test_ready_is_a_503_without_workers_and_when_one_is_silent(
    tmp_path: Path, start: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(data_dir=tmp_path)
    server.hold()
    with server.client() as client:
        time.sleep(0.2)  # the worker of the test may be announcing itself still
        server.call(lambda store: store.workers.retire("test-training"))
        server.call(lambda store: store.workers.retire("test-inference"))
        assert (client.get("/ready").status_code, client.get("/ready").json()["lanes"]) == (503, [])
        server.call(lambda store: store.workers.announce(lane("one", "training", 0)))
        assert client.get("/ready").json()["lanes"][0]["device"] == "cpu"
        later = time.time() + 2 * server.settings.heartbeat_seconds + 60
        monkeypatch.setattr(time, "time", lambda: later)
        answer = client.get("/ready")
        assert (answer.status_code, answer.json()["lanes"][0]["alive"]) == (503, False)


def test_a_restarted_supervisor_takes_the_place_of_the_dead_one() -> None:
    old, new = lane("old", "training", 1), lane("new", "training", 2)
    other = lane("other", "inference", 1)
    assert current([new, other, old]) == [other, new]


def test_the_front_speaks_to_people_and_to_programs(anyone: httpx.Client, server: WebServer) -> None:
    assert anyone.get("/").json()["prefixes"]["queue"] == server.origin + "/queue"
    page = anyone.get("/", headers={"accept": "text/html,*/*"}, follow_redirects=True)
    assert page.headers["content-type"].startswith("text/html")
    assert (page.url.path, "Sign in" in page.text) == ("/sign-in", True)


def test_the_error_page_knows_every_type_an_input_error_can_have(anyone: httpx.Client) -> None:
    page = anyone.get("/docs/errors").text
    inputs = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InputError)]
    requests = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RequestError)
    ]
    for kind in [*inputs, *requests]:
        assert f"id='{kind.type}'" in page
    for type_ in ("missing", "json_invalid", "one_of"):
        assert f"id='{type_}'" in page
