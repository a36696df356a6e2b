from __future__ import annotations

import uuid

import httpx
import pytest

SUBMIT = "/queue/fal-ai/flux-lora"


@pytest.fixture
def anyone(server):
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


@pytest.mark.parametrize("scheme", ["Key", "key", "KEY", "Bearer", "bearer"])
def test_a_good_key_is_good_in_any_form(anyone, server, scheme):
    answer = anyone.post(SUBMIT, json={"prompt": "x"}, headers={"Authorization": f"{scheme} {server.key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "value",
    [None, "", "Key", "Key x", "Key x:y", "Basic eDp5", "Bearer a.b", "Key " + "x" * 5000, "Key é:ü"],
)
def test_no_key_or_a_bad_one_is_a_401_that_says_what_to_do(anyone, value):
    headers = {} if value is None else {"Authorization": value.encode("latin-1")}
    for method, path in (("POST", SUBMIT), ("GET", f"{SUBMIT}/requests/{uuid.uuid4()}/status"), ("POST", "/run/a/b")):
        answer = anyone.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error_type"]) == (401, "unauthorized")
        assert "tintype keys create" in answer.json()["detail"]
        assert answer.headers["x-fal-request-id"]


def test_an_unknown_request_under_a_good_key_is_a_404(client):
    assert client.get(f"{SUBMIT}/requests/{uuid.uuid4()}/status").status_code == 404


def test_a_revoked_key_is_a_bad_one(anyone, server):
    key, text = server.call(lambda queue: queue.create_key("short"))
    headers = {"Authorization": f"Key {text}"}
    assert anyone.get(f"{SUBMIT}/requests/{uuid.uuid4()}", headers=headers).status_code == 404
    server.call(lambda queue: queue.revoke_key(key.id))
    assert anyone.get(f"{SUBMIT}/requests/{uuid.uuid4()}", headers=headers).status_code == 401


def test_with_keys_switched_off_none_is_asked_for(tmp_path, start):
    server = start(data_dir=tmp_path, auth="off")
    with httpx.Client(base_url=server.origin, trust_env=False) as anyone:
        assert anyone.post(SUBMIT, json={"prompt": "x"}).status_code == 200
        assert anyone.post(SUBMIT, json={"prompt": "x"}, headers={"Authorization": "Key any"}).status_code == 200
        assert anyone.post("/cdn/files/upload", content=b"x").status_code == 200
