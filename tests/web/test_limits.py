"""What one person may have is limited, with an answer that says what to do; another person is not disturbed, nor is a
poll ever refused."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from tests.support.web_server import WebServer

from tintype.errors import LimitReached
from tintype.settings import Limits, Settings
from tintype.store import Store
from tintype.web.limits import PersonLimits

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
DRAWER = "/queue/fal-ai/flux-lora"


def train(client: httpx.Client, number: int, **options: Any) -> httpx.Response:
    body = {"images_data_url": "https://example.com/a.zip", "trigger_phrase": f"slow {number}"}
    return client.post(TRAINER, json=body, **options)


def draw(client: httpx.Client, prompt: str = "slow") -> httpx.Response:
    return client.post(DRAWER, json={"prompt": prompt})


def refused(answer: httpx.Response, what: str) -> httpx.Response:
    assert answer.status_code == 429, answer.text
    assert answer.headers["x-fal-error-type"] == answer.json()["error_type"] == "limit_reached"
    assert answer.headers["x-fal-retryable"] == "true"
    assert f"{what} for one person" in answer.json()["detail"]
    assert f"TINTYPE_MAX_{what.split(' ', 1)[1].upper().replace(' ', '_')}" in answer.json()["detail"]
    return answer


Start = Callable[..., WebServer]


@pytest.fixture
def begin(start: Start, tmp_path: Path) -> Callable[..., WebServer]:
    """Starts a server of certain limits, whose worker stands still."""

    def begin(**limits: Any) -> WebServer:
        server = start(data_dir=tmp_path, **limits)
        server.hold()
        return server

    return begin


@contextlib.contextmanager
def client_of(server: WebServer, name: str) -> Iterator[httpx.Client]:
    async def create(store: Store) -> str:
        return (await store.keys.create(name))[1]

    headers = {"Authorization": f"Key {server.call(create)}"}
    with httpx.Client(base_url=server.origin, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def test_waiting_trainings_are_limited_also_for_parallel_submits_and_another_person_is_next(
    begin: Callable[..., WebServer],
) -> None:
    server = begin(max_waiting_trainings=5)
    with server.client() as client, client_of(server, "test") as same, client_of(server, "bob") as other:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda number: train(client, number), range(24)))
        assert [answer.status_code for answer in answers].count(200) == 5
        for answer in answers:
            if answer.status_code != 200:
                refused(answer, "5 waiting trainings")
        refused(train(same, 99), "5 waiting trainings")
        mine = train(other, 0).json()
        assert mine["queue_position"] == 1
        assert draw(client).status_code == 200  # another kind of request
        cancelled = next(answer.json() for answer in answers if answer.status_code == 200)
        assert client.put(cancelled["cancel_url"]).status_code == 202
        assert train(client, 100).status_code == 200


def test_waiting_requests_are_limited_where_no_key_is_asked_for(begin: Callable[..., WebServer]) -> None:
    server = begin(max_waiting_requests=3, auth="off")
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        assert [draw(client).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        refused(draw(client), "3 waiting requests")
        refused(client.post("/run/fal-ai/flux-lora", json={"prompt": "x"}), "3 waiting requests")


def test_what_was_sent_inside_a_refused_request_is_not_kept(begin: Callable[..., WebServer]) -> None:
    server = begin(max_waiting_trainings=1)
    body = {"images_data_url": "data:application/zip;base64," + "UEsDBAAA" * 40_000}
    with server.client() as client:
        train(client, 0)
        refused(client.post(TRAINER, json=body), "1 waiting trainings")
    assert not list((server.settings.data_dir / "files").glob("*/data*"))


def test_open_streams_and_runs_are_limited_and_free_again_when_they_end(begin: Callable[..., WebServer]) -> None:
    server = begin(max_open_streams=3)
    with server.client() as client, client_of(server, "bob") as other, contextlib.ExitStack() as streams:
        url = draw(client).json()["status_url"]
        for _ in range(2):
            assert streams.enter_context(client.stream("GET", f"{url}/stream")).status_code == 200
        run = client.stream("POST", "/run/fal-ai/flux-lora/stream", json={"prompt": "slow"})
        assert streams.enter_context(run).status_code == 200
        refused(client.get(f"{url}/stream"), "3 open streams")
        refused(client.post("/run/fal-ai/flux-lora/stream", json={"prompt": "x"}), "3 open streams")
        refused(client.post("/run/fal-ai/flux-lora", json={"prompt": "x"}), "3 open streams")
        unfinished: Any = server.call(lambda store: store.requests.unfinished_runs())
        assert len(unfinished) == 1  # what was refused was not begun
        assert client.get(url).status_code == 202  # polls are not limited
        theirs = draw(other).json()["status_url"]
        with other.stream("GET", f"{theirs}/stream") as stream:
            assert stream.status_code == 200
        streams.close()
        ends = time.monotonic() + 30
        while True:
            with client.stream("GET", f"{url}/stream") as stream:
                if stream.status_code == 200:
                    return
            assert time.monotonic() < ends
            time.sleep(0.1)


def test_a_stream_that_cannot_begin_is_not_counted(begin: Callable[..., WebServer]) -> None:
    server = begin(max_open_streams=1)
    with server.client() as client:
        for _ in range(3):
            assert client.post("/run/fal-ai/flux-lora/stream", json={}).status_code == 422
            assert client.post("/run/fal-ai/flux-lora", json={}).status_code == 422
            assert client.get("/queue/fal-ai/flux-lora/requests/x/status/stream").status_code == 404


def test_submits_in_a_minute_are_limited_before_their_bodies_are_read_and_polls_are_not(
    begin: Callable[..., WebServer],
) -> None:
    server = begin(max_submits_per_minute=4)
    with server.client() as client, client_of(server, "bob") as other:
        answers = [draw(client) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
        answer = refused(client.post(DRAWER, content=b"no json"), "4 submits per minute")
        assert answer.headers["retry-after"] == "15"
        refused(client.get("/run/fal-ai/flux-lora", params={"prompt": "x"}), "4 submits per minute")
        polls = [client.get(answers[0].json()["status_url"]).status_code for _ in range(60)]
        assert polls == [202] * 60
        assert draw(other).status_code == 200


def test_stored_bytes_are_limited_and_what_is_refused_is_not_kept(begin: Callable[..., WebServer]) -> None:
    server = begin(max_stored_bytes=300_000)
    with server.client() as client, client_of(server, "bob") as other:

        def upload(client: httpx.Client, size: int) -> httpx.Response:
            return client.post("/cdn/files/upload", content=b"x" * size, headers={"x-fal-file-name": "a.bin"})

        assert upload(client, 100_000).status_code == 200
        with ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(lambda _: upload(client, 150_000).status_code, range(4)))
        assert sorted(codes) == [200, 429, 429, 429]
        refused(upload(client, 100_000), "300,000 stored bytes")
        initiated = client.post("/rest/storage/upload/initiate", json={"file_name": "a.bin"}).json()
        refused(httpx.put(initiated["upload_url"], content=b"x" * 100_000, trust_env=False), "300,000 stored bytes")
        long = "data:application/zip;base64," + "UEsDBAAA" * 40_000
        refused(client.post(TRAINER, json={"images_data_url": long}), "300,000 stored bytes")
        assert sum(path.stat().st_size for path in (server.settings.data_dir / "files").rglob("*.bin")) == 250_000
        assert upload(other, 200_000).status_code == 200


def test_parts_that_were_sent_are_stored_bytes_until_the_whole_takes_their_place(
    begin: Callable[..., WebServer],
) -> None:
    server = begin(max_stored_bytes=300_000)
    with server.client() as client, client_of(server, "bob") as other:

        def parts() -> str:
            return str(
                client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a.bin"}).json()["upload_url"]
            )

        def send(url: str, size: int, **body: Any) -> httpx.Response:
            return httpx.put(url, **({"content": b"x" * size} | body), trust_env=False, timeout=60)

        first, second = parts(), parts()
        part = [send(f"{first}/1", 200_000) for _ in range(2)][-1].json()  # sent again it is no further one
        refused(send(f"{second}/1", 150_000), "300,000 stored bytes")
        refused(send(f"{second}/1", 0, content=iter([b"x" * 75_000] * 2)), "300,000 stored bytes")
        refused(send(f"{first}/2", 150_000), "300,000 stored bytes")
        refused(client.post("/cdn/files/upload", content=b"x" * 150_000), "300,000 stored bytes")
        with ThreadPoolExecutor(4) as pool:  # of parts that come together, as many as there is room for
            codes = list(pool.map(lambda number: send(f"{first}/{number}", 40_000).status_code, range(2, 6)))
        assert sorted(codes) == [200, 200, 429, 429]
        kept = list((server.settings.data_dir / "uploads").glob("*/part-*"))
        assert sum(path.stat().st_size for path in kept) == 280_000
        assert client.post(f"{first}/complete", json={"parts": [part]}).status_code == 200
        assert client.post("/cdn/files/upload", content=b"x" * 90_000).status_code == 200  # nothing counts twice
        assert other.post("/cdn/files/upload", content=b"x" * 150_000).status_code == 200
        assert client.get(f"/cdn/files/{first.rsplit('/', 1)[1]}/parts").status_code == 404


def test_fals_client_waits_for_a_place_and_is_given_it(begin: Callable[..., WebServer], monkeypatch: Any) -> None:
    server = begin(max_waiting_requests=1)
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", f"{server.origin}/queue/")
    client = fal_client.SyncClient(key=server.key)
    with server.client() as plain:
        first = draw(plain, "quick").json()
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(client.submit, "fal-ai/flux-lora", {"prompt": "quick"})
        time.sleep(0.5)
        assert not second.done()
        server.release()
        assert second.result(60).request_id != first["request_id"]
    server.wait(second.result().request_id, "COMPLETED")
    client._client.close()


# --- the counting ---------------------------------------------------------------------------------------------


def test_submits_become_free_at_the_rate_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("tintype.web.limits.time.monotonic", lambda: now)
    limits = PersonLimits(Limits(submits_per_minute=60))
    for _ in range(60):
        limits.count_submit("ada")
    with pytest.raises(LimitReached):
        limits.count_submit("ada")
    limits.count_submit("bob")
    now += 1.5
    limits.count_submit("ada")
    with pytest.raises(LimitReached):
        limits.count_submit("ada")


def test_the_limits_of_an_installation_are_all_set_and_can_all_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(Limits.__dataclass_fields__)
    assert all(getattr(Settings().limits, name) > 0 for name in names)
    for name in names:
        monkeypatch.setenv(f"TINTYPE_MAX_{name.upper()}", "0")
    assert Settings().limits == Limits()
    free = PersonLimits(Settings().limits)
    for _ in range(5000):
        free.count_submit("ada")
        free.open_stream("ada")
