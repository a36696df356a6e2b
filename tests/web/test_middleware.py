from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype.web.middleware import plain_path

QUEUE = "https://queue.fal.run/fal-ai/flux-lora"


def through(client: httpx.Client, method: str, target: str, **options: Any) -> httpx.Response:
    headers = {"x-fal-target-url": target, **options.pop("headers", {})}
    return client.request(method, "/fal/proxy?logs=0&ours=1", headers=headers, **options)


def test_path_and_query_are_the_targets_and_method_and_body_the_callers(
    client: httpx.Client, server: WebServer
) -> None:
    server.hold()
    sent = through(client, "POST", f"{QUEUE}?fal_webhook=ftp://x", json={"prompt": "x"})
    assert (sent.status_code, sent.json()["error_type"]) == (400, "bad_request")
    sent = through(client, "POST", QUEUE, json={"prompt": "through a proxy"})
    request = f"{QUEUE}/requests/{sent.json()['request_id']}"
    assert sent.json()["status_url"].startswith(server.origin)
    server.release()
    server.wait(sent.json()["request_id"], "COMPLETED")
    for logs, lines in (("1", 3), ("0", 0)):
        assert len(through(client, "GET", f"{request}/status?logs={logs}").json()["logs"]) == lines
    assert through(client, "GET", request).json()["words"] == "through a proxy"
    assert through(client, "PUT", f"{request}/cancel").status_code == 400


def test_a_proxy_that_forces_its_accept_header_still_gets_events(client: httpx.Client) -> None:
    sent = through(client, "POST", QUEUE, json={"prompt": "x"}).json()
    target = f"{QUEUE}/requests/{sent['request_id']}/status/stream?logs=1"
    answer = through(client, "GET", target, headers={"accept": "application/json"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    last = [line for line in answer.text.split("\n\n") if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["status"] == "COMPLETED"


def test_uploads_are_begun_through_a_proxy_and_sent_to_the_url_in_the_answer(client: httpx.Client) -> None:
    target = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
    begun = through(client, "POST", target, json={"content_type": "text/plain", "file_name": "a.txt"}).json()
    assert client.put(begun["upload_url"], content=b"hello").is_success
    assert client.get(begun["file_url"]).content == b"hello"


def test_a_target_on_this_server_itself_is_told_by_its_prefix(client: httpx.Client, server: WebServer) -> None:
    answer = through(client, "POST", f"{server.origin}/run/fal-ai/flux-lora", json={"prompt": "x"})
    assert answer.json()["words"] == "x"


@pytest.mark.parametrize("target", ["", "queue.fal.run/x", "https://example.com/x", "https://[", "file:///etc/passwd"])
def test_a_target_elsewhere_is_refused(client: httpx.Client, target: str) -> None:
    answer = through(client, "GET", target)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    assert answer.json()["message"]


def test_the_target_does_not_hide_the_name_this_server_was_called_by(client: httpx.Client) -> None:
    assert through(client, "GET", QUEUE, headers={"host": "evil.example"}).status_code == 403


def test_fals_names_turned_here_by_a_name_server_are_answered(client: httpx.Client) -> None:
    answer = client.post("/fal-ai/flux-lora", json={"prompt": "named"}, headers={"host": "fal.run"})
    assert answer.json()["words"] == "named"
    answer = client.post("/fal-ai/flux-lora/", json={"prompt": "named"}, headers={"host": "queue.fal.run"})
    assert answer.json()["status_url"].startswith("http://queue.fal.run/queue/fal-ai/flux-lora/requests/")


@pytest.mark.parametrize(
    ("path", "plain"), [("/", "/"), ("//", "/"), ("", "/"), ("/a/b/", "/a/b"), ("//a///b//", "/a/b"), ("/a b", "/a b")]
)
def test_slashes_at_the_end_or_in_a_row_mean_nothing(path: str, plain: str) -> None:
    assert plain_path(path) == plain


def test_a_refusal_before_any_route_is_answered_like_every_other(client: httpx.Client) -> None:
    page = {"origin": "http://localhost:3000"}
    for answer in (
        client.get("/", headers={**page, "host": "evil.example"}),
        client.get("/", headers={**page, "x-fal-target-url": "https://example.com/"}),
    ):
        assert answer.status_code in (400, 403)
        assert answer.headers["x-fal-request-id"]
        assert answer.headers["x-fal-error-type"] == answer.json()["error_type"]
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
