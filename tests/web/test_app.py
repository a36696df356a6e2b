from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.support.web_server import WebServer

from tintype.web.routes import PAGES

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
PATHS = [
    TRAINER, "/queue/fal-ai/flux-lora", "/run/fal-ai/flux-lora/x", "/rest/storage/upload/initiate", "/cdn/files/upload",
    "/rest/storage/upload/initiate-multipart", "/rest/storage/auth/token", "/rest/tokens/", "/", "/docs/errors",
    f"{TRAINER}/requests/x/status", f"{TRAINER}/requests/x/cancel", "/cdn/files/x/y/multipart/z/1",
    f"/rest/storage/upload/files/{'A' * 32}/x", f"/rest/storage/upload/parts/{'A' * 32}/complete",
]  # fmt: skip
INPUT = st.dictionaries(
    st.sampled_from(
        ["images_data_url", "steps", "learning_rate", "loras", "prompt", "image_size", "seed", "sample_prompts", "x"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text()
        | st.sampled_from(["data:,x", "tintype:files/a/b", "http://[", "https://é/x", "http://h/\ud800"]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    ),
)  # fmt: skip
QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_every_answer_is_json_with_a_request_id_and_never_a_redirect(client: httpx.Client) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
        for path in ("/nothing", "/queue/", "/queue", TRAINER, TRAINER + "/", "//", "/run/x", "/cdn/files/", "/rest"):
            answer = client.request(method, path)
            assert not 300 <= answer.status_code < 400
            assert answer.status_code != 500
            assert answer.headers["x-fal-request-id"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert (answer.status_code == 405) == ("allow" in answer.headers)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/json"
                assert answer.json()["detail"]
                assert answer.json()["message"]


@QUIET
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    path=st.sampled_from(PATHS) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")),
    query=st.text(st.characters(codec="utf-8"), max_size=40),
    body=st.binary(max_size=200) | INPUT.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(["x-fal-request-timeout", "range", "x-fal-file-name", "content-type", "origin", "x-fal-tags",
                         "x-fal-object-lifecycle", "idempotency-key", "x-fal-queue-priority"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
        max_size=3,
    ),
)  # fmt: skip
def test_whatever_is_sent_is_no_fault_of_the_server(
    client: httpx.Client, method: Any, path: Any, query: Any, body: Any, headers: Any
) -> None:
    raw_path = f"/{quote(path.lstrip('/'))}?{quote(query, safe='=&')}".encode()
    raw = {name: value.strip().encode("latin-1") for name, value in headers.items()}
    answer = client.request(method, client.base_url.copy_with(raw_path=raw_path), content=body, headers=raw)
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-fal-request-id"]


@QUIET
@given(INPUT)
@pytest.mark.parametrize("path", [TRAINER, "/queue/fal-ai/flux-lora"])
def test_whatever_is_asked_for_is_accepted_or_a_422(client: httpx.Client, path: Any, body: Any) -> None:
    answer = client.post(path, content=json.dumps(body).encode())
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["message"]
        assert all({"loc", "msg", "type", "url"} <= set(entry) for entry in answer.json()["detail"])


def test_a_mistake_of_ours_is_json_with_the_id_that_the_log_has(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_call: object) -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setitem(PAGES[0].handlers, "GET", broken)
    answer = client.get("/")
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal_error")
    assert answer.headers["x-fal-request-id"] in answer.json()["detail"]
    assert "secret" not in answer.text


def test_a_foreign_name_or_page_is_refused(client: httpx.Client) -> None:
    rebound = client.get("/", headers={"host": "evil.example"})
    assert (rebound.status_code, rebound.json()["error_type"]) == (403, "forbidden")
    page = client.post(TRAINER, json={}, headers={"origin": "https://evil.example"})
    assert (page.status_code, page.json()["error_type"]) == (403, "forbidden")
    link = client.get("/run/fal-ai/flux-lora", params={"prompt": "x"}, headers={"origin": "https://evil.example"})
    assert (link.status_code, link.json()["error_type"]) == (403, "forbidden")


def test_a_page_of_this_machine_may_ask_send_and_read_the_request_id(client: httpx.Client) -> None:
    origin = {"origin": "http://localhost:3000"}
    asked = client.options(
        TRAINER,
        headers={**origin, "access-control-request-method": "POST", "access-control-request-private-network": "true"},
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-private-network"] == "true"
    asked = client.options(
        TRAINER, headers={**origin, "access-control-request-headers": "authorization, X-Fal-Of-Tomorrow, x-other"}
    )
    allowed = asked.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "x-fal-target-url", "x-fal-of-tomorrow"} <= set(allowed)
    assert "x-other" not in allowed
    for answer in (client.post(TRAINER, json={}, headers=origin), client.get("/nothing", headers=origin)):
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "x-fal-request-id" in answer.headers["access-control-expose-headers"]


def test_urls_name_the_public_origin_when_there_is_one(tmp_path: Path, start: Callable[..., WebServer]) -> None:
    server = start(data_dir=tmp_path, public_url="https://tintype.example/")
    with server.client() as client:
        answer = client.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}, headers={"host": "tintype.example"})
        assert answer.json()["status_url"].startswith("https://tintype.example/queue/fal-ai/flux-lora/requests/")
        upload = client.post("/cdn/files/upload", content=b"x").json()["access_url"]
        assert upload.startswith("https://tintype.example/cdn/files/")
