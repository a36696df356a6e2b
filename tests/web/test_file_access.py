from __future__ import annotations

import time

import httpx
import pytest

FORBIDDEN = '{"initial_acl": {"default": "forbid", "rules": [{"user": "guest", "decision": "allow"}]}}'
HIDDEN = '{"initial_acl": {"default": "hide"}}'


@pytest.fixture
def anyone(server):
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def guest(server):
    """Somebody with a key of another name."""
    _, key = server.call(lambda queue: queue.create_key("guest"))
    headers = {"Authorization": f"Key {key}"}
    with httpx.Client(base_url=server.origin, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def upload(client, lifecycle):
    headers = {"x-fal-file-name": "photos.zip", "x-fal-object-lifecycle": lifecycle}
    return client.post("/cdn/files/upload", content=b"PK", headers=headers).json()["access_url"]


def test_a_forbidden_file_opens_to_its_owner_and_to_whom_its_list_names(client, anyone, guest):
    url = upload(client, FORBIDDEN)
    refused = anyone.get(url)
    assert (refused.status_code, refused.json()["error_type"]) == (403, "forbidden")
    assert anyone.get(url, headers={"Authorization": "Key wrong"}).status_code == 403
    assert anyone.head(url).status_code == 403
    assert client.get(url).content == guest.get(url).content == b"PK"
    assert client.get(url).headers["cache-control"] == "private, no-cache"


def test_a_hidden_file_cannot_be_told_from_one_that_is_not_there(client, anyone, guest):
    url = upload(client, HIDDEN)
    hidden, missing = guest.get(url), guest.get(url.replace("photos", "other"))
    assert hidden.status_code == missing.status_code == anyone.get(url).status_code == 404
    assert hidden.json() == missing.json()
    assert client.get(url).status_code == 200


def test_every_way_of_uploading_keeps_the_list(client, anyone):
    headers = {"x-fal-object-lifecycle": FORBIDDEN}
    named = {"file_name": "a.zip", "content_type": "application/zip"}
    signed = client.post("/rest/storage/upload/initiate", json=named, headers=headers).json()
    assert anyone.put(signed["upload_url"], content=b"x").status_code == 200
    begun = client.post("/rest/storage/upload/initiate-multipart", json=named, headers=headers).json()
    part = anyone.put(f"{begun['upload_url']}/1", content=b"x").json()
    assert anyone.post(f"{begun['upload_url']}/complete", json={"parts": [part]}).status_code == 200
    for url in (signed["file_url"], begun["file_url"]):
        assert (anyone.get(url).status_code, client.get(url).content) == (403, b"x")
    opened = httpx.URL(signed["upload_url"]).copy_set_param("acl", "")
    assert anyone.put(opened, content=b"x").status_code == 403


def test_a_signed_url_opens_a_file_until_it_ends_and_no_other_file(client, anyone, monkeypatch):
    url, other = upload(client, HIDDEN), upload(client, HIDDEN)
    asked = client.post("/v1/storage/files/sign", params={"url": url}, json={"expiration_seconds": 60})
    signed = asked.json()["signed_url"]
    assert signed.startswith(url)
    assert anyone.get(signed).content == b"PK"
    assert anyone.get(signed, headers={"range": "bytes=1-"}).content == b"K"
    assert anyone.get(other, params=httpx.URL(signed).params).status_code == 404
    assert anyone.get(httpx.URL(signed).copy_set_param("expires", "99999999999")).status_code == 404
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 61)
    assert anyone.get(signed).status_code == 404


@pytest.mark.parametrize("body", [{}, [], {"expiration_seconds": 0}, {"expiration_seconds": 604_801},
                                  {"expiration_seconds": "60"}, {"expiration_seconds": True}])  # fmt: skip
def test_a_signed_url_lasts_from_a_second_to_a_week(client, body):
    url = upload(client, HIDDEN)
    assert client.post("/v1/storage/files/sign", params={"url": url}, json=body).status_code == 400


def test_a_list_can_be_read_and_replaced_by_the_owner_alone(client, anyone, guest):
    url = upload(client, HIDDEN)
    place = {"params": {"url": url}}
    assert client.get("/v1/storage/files/acl", **place).json() == {"default": "hide", "rules": []}
    for stranger in (anyone, guest):
        expected = 401 if stranger is anyone else 404
        assert stranger.get("/v1/storage/files/acl", **place).status_code == expected
        assert stranger.put("/v1/storage/files/acl", json={"default": "allow"}, **place).status_code == expected
        assert stranger.post("/v1/storage/files/sign", json={"expiration_seconds": 9}, **place).status_code == expected
    for nonsense in ({"default": "maybe"}, {}, None):
        assert client.put("/v1/storage/files/acl", json=nonsense, **place).status_code == 400
    assert client.put("/v1/storage/files/acl", **place).status_code == 400
    shared = {"default": "forbid", "rules": [{"user": "guest", "decision": "allow"}]}
    assert client.put("/v1/storage/files/acl", json=shared, **place).json() == shared
    assert (guest.get(url).status_code, anyone.get(url).status_code) == (200, 403)
    assert client.put("/v1/storage/files/acl", json={"default": "allow"}, **place).json()["rules"] == []
    assert anyone.get(url).status_code == 200
    for nothing in ("", "https://example.org/x", url + "x"):
        assert client.get("/v1/storage/files/acl", params={"url": nothing}).status_code in (200, 404)


def test_a_file_that_is_not_for_a_caller_is_no_input_for_it_either(client, guest):
    hidden, forbidden = upload(client, HIDDEN), upload(client, FORBIDDEN)
    trainer = "/queue/fal-ai/flux-lora-portrait-trainer"
    refused = guest.post(trainer, json={"images_data_url": hidden})
    assert (refused.status_code, refused.json()["detail"][0]["type"]) == (422, "file_download_error")
    asked = client.post("/v1/storage/files/sign", params={"url": hidden}, json={"expiration_seconds": 60})
    for url in (forbidden, asked.json()["signed_url"]):
        assert guest.post(trainer, json={"images_data_url": url}).status_code == 200
    assert client.post(trainer, json={"images_data_url": hidden}).status_code == 200


def test_the_files_of_a_result_are_for_whom_its_request_said(client, anyone, server):
    headers = {"x-fal-object-lifecycle-preference": FORBIDDEN}
    body = {"images_data_url": upload(client, HIDDEN), "trigger_phrase": "private"}
    asked = client.post("/queue/fal-ai/flux-lora-portrait-trainer", json=body, headers=headers).json()
    server.wait(asked["request_id"], "COMPLETED")
    url = client.get(asked["response_url"]).json()["diffusers_lora_file"]["url"]
    assert (anyone.get(url).status_code, client.get(url).content) == (403, b"weights of private")
