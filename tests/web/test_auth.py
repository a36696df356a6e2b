from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.javascript import node
from tests.support.web_server import WebServer

from tintype.store.records import Status
from tintype.web.signing import Signer

SUBMIT = "/queue/fal-ai/flux-lora"


@pytest.fixture
def anyone(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


@pytest.mark.parametrize("scheme", ["Key", "key", "KEY", "Bearer", "bearer"])
def test_a_good_key_is_good_in_any_form(anyone: httpx.Client, server: WebServer, scheme: str) -> None:
    answer = anyone.post(SUBMIT, json={"prompt": "x"}, headers={"Authorization": f"{scheme} {server.key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "value", [None, "", "Key", "Key x", "Key x:y", "Basic eDp5", "Bearer a.b", "Key " + "x" * 5000, "Key é:ü"]
)
def test_no_key_or_a_bad_one_is_a_401_that_says_what_to_do(anyone: httpx.Client, value: str | None) -> None:
    headers: Any = {} if value is None else {"Authorization": value.encode("latin-1")}
    for method, path in (("POST", SUBMIT), ("GET", f"{SUBMIT}/requests/{uuid.uuid4()}/status"), ("POST", "/run/a/b")):
        answer = anyone.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error_type"]) == (401, "unauthorized")
        assert "tintype keys create" in answer.json()["detail"]
        assert answer.headers["x-fal-request-id"]


def test_an_unknown_request_under_a_good_key_is_a_404(client: httpx.Client) -> None:
    assert client.get(f"{SUBMIT}/requests/{uuid.uuid4()}/status").status_code == 404


def test_a_revoked_key_is_a_bad_one(anyone: httpx.Client, server: WebServer) -> None:
    key, text = server.call(lambda store: store.keys.create("short"))
    headers = {"Authorization": f"Key {text}"}
    assert anyone.get(f"{SUBMIT}/requests/{uuid.uuid4()}", headers=headers).status_code == 404
    server.call(lambda store: store.keys.revoke(key.id))
    assert anyone.get(f"{SUBMIT}/requests/{uuid.uuid4()}", headers=headers).status_code == 401


def test_with_keys_switched_off_none_is_asked_for(tmp_path: Path, start: Callable[..., WebServer]) -> None:
    server = start(data_dir=tmp_path, auth="off")
    with httpx.Client(base_url=server.origin, trust_env=False) as anyone:
        assert anyone.post(SUBMIT, json={"prompt": "x"}).status_code == 200
        assert anyone.post(SUBMIT, json={"prompt": "x"}, headers={"Authorization": "Key any"}).status_code == 200
        assert anyone.post("/cdn/files/upload", content=b"x").status_code == 200


RUN = "/run/fal-ai/flux-lora"
FOR_US = {"allowed_apps": ["flux-lora"], "token_expiration": 120}


@pytest.fixture
def page(server: WebServer) -> Iterator[httpx.Client]:
    """A web page: it holds no key."""
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


def token(client: httpx.Client, body: object = FOR_US, path: str = "/rest/tokens/") -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json(), str)
    return answer.json()


@pytest.mark.parametrize("path", ["/rest/tokens/", "/rest/tokens", "/tokens/", "/rest/tokens/realtime"])
def test_a_token_runs_and_streams_what_it_is_for(
    client: httpx.Client, page: httpx.Client, server: WebServer, path: str
) -> None:
    for app in ("flux-lora", "fal-ai/flux-lora"):
        given = {"fal_jwt_token": token(client, {"allowed_apps": [app], "duration": 60}, path)}
        answer = page.post(RUN, json={"prompt": "paged"}, params=given)
        assert answer.json()["words"] == "paged"
        kept = server.request(answer.headers["x-fal-request-id"])
        assert kept.key_id == server.key.split(":")[0]
        assert '"words":"paged"' in page.post(RUN + "/stream", json={"prompt": "paged"}, params=given).text


def test_fals_javascript_client_streams_with_a_token_and_cancels_by_hanging_up(
    client: httpx.Client, server: WebServer
) -> None:
    seen = node("tokens", TINTYPE_ORIGIN=server.origin, FAL_KEY=server.key, SLOW="slow page")
    assert [event["status"] for event in seen["events"][:-1]][-1] == "COMPLETED"
    assert seen["done"]["words"] == seen["events"][-1]["words"] == "paged"
    assert server.wait(seen["leftId"], "COMPLETED")["error_type"] == "client_cancelled"


def test_a_token_is_for_its_application_and_for_nothing_but_running_it(
    client: httpx.Client, page: httpx.Client
) -> None:
    given = {"fal_jwt_token": token(client)}
    refused = page.post("/run/fal-ai/flux-lora-portrait-trainer", json={}, params=given)
    assert (refused.status_code, refused.json()["error_type"]) == (403, "forbidden")
    assert "allowed_apps" in refused.json()["detail"]
    for method, path in (("POST", "/queue/fal-ai/flux-lora"), ("POST", "/rest/tokens/"), ("GET", "/v1/custom-models")):
        assert page.request(method, path, json={}, params=given).status_code == 401


def test_a_token_ends_with_its_time_and_with_its_key(
    client: httpx.Client, page: httpx.Client, server: WebServer
) -> None:
    key, text = server.call(lambda store: store.keys.create("page"))
    given = {"fal_jwt_token": client.post("/tokens/", json=FOR_US, headers={"Authorization": f"Key {text}"}).json()}
    assert page.post(RUN, json={"prompt": "x"}, params=given).status_code == 200
    server.call(lambda store: store.keys.revoke(key.id))
    assert page.post(RUN, json={"prompt": "x"}, params=given).status_code == 401
    assert page.get(RUN, params=given | {"prompt": "x"}).status_code == 401
    short = {"fal_jwt_token": token(client, FOR_US | {"token_expiration": 0.001})}
    time.sleep(0.01)
    assert page.post(RUN, json={"prompt": "x"}, params=short).status_code == 401


def test_a_token_of_another_kind_is_none() -> None:
    signer = Signer(b"secret")
    ends = time.time() + 60
    assert signer.app_claims(signer.token("key", ends)) is None
    assert signer.token_key(signer.app_token("key", ["v4"], ends)) is None
    assert signer.app_claims(signer.app_token("key", ["v4"], ends)) == ("key", ["v4"])
    assert signer.app_claims("") is None


@pytest.mark.parametrize(
    "body",
    [{}, {"allowed_apps": []}, {"allowed_apps": "v4"}, {"allowed_apps": [1]}, [], FOR_US | {"token_expiration": 0},
     FOR_US | {"token_expiration": "soon"}, FOR_US | {"token_expiration": 1e9}, FOR_US | {"token_expiration": True}],
)  # fmt: skip
def test_what_is_not_understood_gives_no_token(client: httpx.Client, body: Any) -> None:
    assert client.post("/rest/tokens/", json=body).status_code == 400


def test_whoever_has_no_key_gets_no_token(page: httpx.Client) -> None:
    assert page.post("/rest/tokens/", json=FOR_US).status_code == 401


def test_open_streams_end_with_their_key(client: httpx.Client, page: httpx.Client, server: WebServer) -> None:
    server.hold()
    key, text = server.call(lambda store: store.keys.create("leaver"))
    theirs = {"Authorization": f"Key {text}"}
    sent = client.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}, headers=theirs).json()
    opens = (("GET", sent["status_url"] + "/stream", None), ("POST", RUN + "/stream", {"prompt": "x"}))
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(page.stream(method, url, headers=theirs, json=body)) for method, url, body in opens
        ]
        lines = [stream.iter_lines() for stream in streams]
        assert all(next(one).startswith("data:") for one in lines)
        server.call(lambda store: store.keys.revoke(key.id))
        for one in lines:
            assert "COMPLETED" not in "".join(one)  # they end; a client that never hears the end would wait here
    assert client.get(sent["status_url"], headers=theirs).status_code == 401


def test_a_download_ends_with_the_key_it_was_opened_with(
    client: httpx.Client, page: httpx.Client, server: WebServer
) -> None:
    key, text = server.call(lambda store: store.keys.create("leaver"))
    theirs = {"Authorization": f"Key {text}"}

    def upload(lifecycle: str) -> str:
        headers = theirs | {"x-fal-object-lifecycle": lifecycle}
        return str(client.post("/cdn/files/upload", content=bytes(32 << 20), headers=headers).json()["access_url"])

    hidden, public = upload('{"initial_acl": {"default": "hide"}}'), upload("{}")
    asked = client.post(
        "/v1/storage/files/sign", params={"url": hidden}, json={"expiration_seconds": 60}, headers=theirs
    )
    signed = asked.json()["signed_url"]
    with contextlib.ExitStack() as stack:
        opened = [
            (url, stack.enter_context(page.stream("GET", url, headers=theirs))) for url in (hidden, signed, public)
        ]
        pieces = {url: answer.iter_raw() for url, answer in opened}
        assert all(next(rest) for rest in pieces.values())
        server.call(lambda store: store.keys.revoke(key.id))
        time.sleep(1)  # nobody reads on meanwhile
        assert sum(len(piece) for piece in pieces[public]) > 16 << 20
        for url in (hidden, signed):
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces[url])
    assert [page.get(url, headers=theirs).status_code for url in (hidden, signed, public)] == [404, 404, 200]


def test_what_a_revoked_key_has_sent_is_cancelled(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    key, text = server.call(lambda store: store.keys.create("leaver"))
    for sender in ({"Authorization": f"Key {text}"}, {}):
        assert client.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}, headers=sender).status_code == 200
    server.call(lambda store: store.keys.revoke(key.id))
    assert server.call(lambda store: store.requests.cancel_all([key.id])) == 1
    left = server.call(lambda store: store.requests.list(status=Status.IN_QUEUE))
    assert key.id not in {request.key_id for request in left}
    assert left
