from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import fal_client
import fal_client.client as globals_of_fal
import httpx
import pytest
from tests.support.web_server import WebServer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tintype.settings import Settings
from tintype.store import Request
from tintype.store.records import NewRequest, Outcome
from tintype.store.store import Store
from tintype.web import sync_runs
from tintype.web.sync_runs import GRACE_SECONDS

DRAWER = "/run/fal-ai/flux-lora"


def test_a_run_answers_with_the_output_and_its_request_id(client: httpx.Client, server: WebServer) -> None:
    answer = client.post(DRAWER, json={"prompt": "now"})
    assert (answer.status_code, answer.json()["words"]) == (200, "now")
    kept = server.call(lambda store: store.requests.get(answer.headers["x-fal-request-id"]))
    assert kept.sync


def test_inputs_may_come_in_the_query(client: httpx.Client) -> None:
    answer = client.get(DRAWER, params={"prompt": "asked", "num_images": "2", "fal_max_queue_length": "9"})
    assert (answer.status_code, answer.json()["words"]) == (200, "asked")
    assert client.get(DRAWER, params={"num_images": "2"}).json()["detail"][0]["loc"] == ["body", "prompt"]


def test_errors_come_as_they_are(client: httpx.Client) -> None:
    assert client.post(DRAWER, json={"prompt": "fail"}).status_code == 422
    assert client.post(DRAWER, json={}).status_code == 422
    assert client.post("/run/no/such", json={}).status_code == 404


def test_a_start_deadline_ends_a_run(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    answer = client.post(DRAWER, json={"prompt": "late"}, headers={"x-fal-request-timeout": "0.3"})
    assert answer.status_code == 504
    assert answer.headers["x-fal-request-timeout-type"] == "user"
    server.release()


def hang_up(server: WebServer, path: str, prompt: str) -> None:
    """Sends a request and closes the connection once the server has begun to work on it."""
    body = json.dumps({"prompt": prompt}).encode()
    parts = urlsplit(server.origin)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Key {server.key}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        find(server, prompt, lambda request: request.started_at is not None)


def find(server: WebServer, prompt: str, wanted: Any, name: str = "prompt") -> Request:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        for request in server.call(lambda store: store.requests.list()):
            if request.input.get(name) == prompt and wanted(request):
                return request
        time.sleep(0.02)
    raise AssertionError("it never came to that")


def test_hanging_up_never_cancels_what_another_waits_for(server: WebServer, client: httpx.Client) -> None:
    prompt = f"slow {uuid.uuid4().hex}"
    photos = {"images_data_url": "data:application/zip;base64,UEsDBA==", "trigger_phrase": prompt}
    trainer = "fal-ai/flux-lora-portrait-trainer"
    with ThreadPoolExecutor(1) as pool, server.client() as other:
        waiting = pool.submit(other.post, f"/run/{trainer}", json=photos)
        find(server, prompt, lambda request: request.started_at is not None, name="trigger_phrase")
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/run/{trainer}", json=photos, timeout=0.5)  # coalesced with the first
        time.sleep(GRACE_SECONDS + 0.5)
        request = find(server, prompt, lambda request: True, name="trigger_phrase")
        assert (request.outcome, request.cancel_requested) == (None, False)
        client.put(f"/queue/a/b/requests/{request.id}/cancel")
        assert waiting.result(60).status_code == 499


def test_a_run_that_was_also_queued_goes_on_without_its_caller(server: WebServer, client: httpx.Client) -> None:
    prompt = f"slow {uuid.uuid4().hex}"
    headers = {"x-idempotency-key": uuid.uuid4().hex}
    with pytest.raises(httpx.ReadTimeout):
        client.post(DRAWER, json={"prompt": prompt}, headers=headers, timeout=0.5)
    queued = client.post("/queue/fal-ai/flux-lora", json={"prompt": prompt}, headers=headers).json()["request_id"]
    time.sleep(GRACE_SECONDS + 0.5)
    assert server.call(lambda store: store.requests.get(queued)).cancel_requested is False
    client.put(f"/queue/a/b/requests/{queued}/cancel")


def test_a_caller_who_comes_back_at_once_takes_the_same_run_up(server: WebServer, client: httpx.Client) -> None:
    prompt = f"slow {uuid.uuid4().hex}"
    with pytest.raises(httpx.ReadTimeout):
        client.post(DRAWER, json={"prompt": prompt}, timeout=0.5)
    time.sleep(0.2)
    with ThreadPoolExecutor(1) as pool, server.client() as again:
        second = pool.submit(again.post, DRAWER, json={"prompt": prompt})
        time.sleep(GRACE_SECONDS + 0.5)
        [request] = [
            found for found in server.call(lambda store: store.requests.list()) if found.input.get("prompt") == prompt
        ]
        assert request.cancel_requested is False
        client.put(f"/queue/a/b/requests/{request.id}/cancel")
        assert second.result(60).headers["x-fal-request-id"] == request.id


def test_equal_runs_side_by_side_are_each_their_own(client: httpx.Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post(DRAWER, json={"prompt": "the same"}), range(4)))
    assert len({answer.headers["x-fal-request-id"] for answer in answers}) == 4


def test_runs_of_a_web_process_that_was_killed_are_cancelled_unless_somebody_comes_back(
    tmp_path: Path, start: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_runs, "RESTART_GRACE_SECONDS", 0.2)
    settings: dict[str, Any] = {"data_dir": tmp_path}

    async def leave() -> None:
        store = await Store.open(Settings(**settings).database_url)
        for sync in (True, False):
            await store.requests.submit(
                NewRequest("fal-ai/flux-lora", "inference", {"prompt": "slow"}, sync=sync, digest="d")
            )
        await store.close()

    asyncio.run(leave())
    server = start(**settings)
    request = find(server, "slow", lambda request: request.outcome is Outcome.CANCELLED)
    assert request.sync
    assert [found.sync for found in server.call(lambda store: store.requests.list()) if found.outcome is None] == [
        False
    ]
    server.clear()


@pytest.mark.parametrize("path", [DRAWER, DRAWER + "/stream"])
def test_hanging_up_cancels_a_run(server: WebServer, client: httpx.Client, path: Any) -> None:
    prompt = f"slow {uuid.uuid4().hex}"
    hang_up(server, path, prompt)
    assert find(server, prompt, lambda request: request.outcome is Outcome.CANCELLED)


def test_hanging_up_never_cancels_queued_work(server: WebServer, client: httpx.Client) -> None:
    headers = {"x-idempotency-key": uuid.uuid4().hex}
    prompt = f"slow {uuid.uuid4().hex}"
    request_id = client.post("/queue/fal-ai/flux-lora", json={"prompt": prompt}, headers=headers).json()["request_id"]
    server.wait(request_id, "IN_PROGRESS")
    with pytest.raises(Exception, match="timed out"):
        client.post(DRAWER, json={"prompt": prompt}, headers=headers, timeout=0.5)
    time.sleep(0.3)
    assert client.get(f"/queue/a/b/requests/{request_id}/status").json()["status"] == "IN_PROGRESS"
    client.put(f"/queue/a/b/requests/{request_id}/cancel")
    server.wait(request_id, "COMPLETED")


def test_a_stream_tells_of_progress_and_ends_with_the_output(client: httpx.Client) -> None:
    with client.stream("POST", DRAWER + "/stream", json={"prompt": "streamed"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: ")]
    assert told[-1]["words"] == "streamed"
    assert told[-2]["status"] == "COMPLETED"


def test_a_stream_may_be_asked_for_by_get(client: httpx.Client) -> None:
    with client.stream("GET", DRAWER + "/stream", params={"prompt": "got"}) as answer:
        last = [line for line in answer.iter_lines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["words"] == "got"


def test_a_stream_ends_with_the_error_and_wrong_input_is_plain_json(client: httpx.Client) -> None:
    with client.stream("POST", DRAWER + "/stream", json={"prompt": "fail"}) as answer:
        last = [line for line in answer.iter_lines() if line.startswith("data: ")][-1]
    told = json.loads(last.removeprefix("data: "))
    assert (told["error"], told["detail"][0]["type"]) == ("Not an archive.", "invalid_archive")
    wrong = client.post(DRAWER + "/stream", json={})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/json")


REALTIME = "/run/fal-ai/flux-lora/realtime"


def test_a_websocket_is_told_why_and_closed(server: WebServer) -> None:
    with connect(server.origin.replace("http", "ws") + REALTIME) as socket:
        told = json.loads(socket.recv(timeout=60))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=60)
    assert told["type"] == "x-fal-error"
    assert "subscribe, run or stream" in told["reason"]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert "No endpoint of this server speaks realtime" in closed.value.rcvd.reason


def test_a_websocket_under_another_servers_name_is_not_even_accepted(server: WebServer) -> None:
    parts = urlsplit(server.origin)
    with (
        create_connection((parts.hostname, parts.port)) as connection,
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://evil.example{REALTIME}", sock=connection),
    ):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("use_jwt", [True, False])
def test_fals_client_gets_a_token_and_then_the_refusal(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, use_jwt: bool
) -> None:
    monkeypatch.setattr(globals_of_fal, "REST_URL", server.origin + "/rest")
    monkeypatch.setattr(globals_of_fal, "REALTIME_URL_FORMAT", server.origin.replace("http", "ws") + "/run/")
    client = fal_client.SyncClient(key=server.key)
    with (
        pytest.raises(globals_of_fal.RealtimeError, match="speaks realtime"),
        client.realtime("fal-ai/flux-lora", use_jwt=use_jwt) as connection,
    ):
        connection.recv()
    client._client.close()


def test_without_a_websocket_it_is_a_404_in_json(client: httpx.Client) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, REALTIME, headers={"Authorization": ""})
        assert (answer.status_code, answer.json()["status"]) == (404, "NOT_FOUND")
        assert "realtime" in answer.json()["detail"]
