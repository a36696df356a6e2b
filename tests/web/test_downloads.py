from __future__ import annotations

import email
import email.policy
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, strategies as st
from tests.support.web_server import WebServer

from tintype.files import new_file_id
from tintype.web.downloads import MOST_RANGES, spans_of

DATA = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def url(server: WebServer) -> str:
    with server.client() as client:
        headers: Any = {"x-fal-file-name": 'wei"ghts ü.html'.encode(), "content-type": "text/html"}
        return client.post("/cdn/files/upload", content=DATA, headers=headers).json()["access_url"]


@pytest.fixture(scope="module")
def get(url: str) -> Iterator[Callable[..., httpx.Response]]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield lambda method="GET", **headers: client.request(
            method, url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


def test_a_file_is_sent_whole_and_never_as_a_page_of_ours(get: Callable[..., httpx.Response]) -> None:
    answer = get(origin="https://any.example")
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-disposition"].startswith('attachment; filename="wei_ghts__.html"')
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''wei_ghts_%C3%BC.html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=1000-", 1000, 1024), ("bytes=-24", 1000, 1024), ("bytes=0-99999", 0, 1024),
     ("bytes=-99999", 0, 1024), ("bytes=1023-1023", 1023, 1024), ("Bytes = 1-2", None, None)],
)  # fmt: skip
def test_a_range_gives_exactly_its_bytes(get: Callable[..., httpx.Response], wanted: str, start: Any, end: Any) -> None:
    answer = get(range=wanted)
    if start is None:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.content) == (206, DATA[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1024"


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=5000-6000", "bytes=-0", "bytes=2000-,-0"])
def test_a_range_beyond_the_end_is_a_416_in_json(get: Callable[..., httpx.Response], wanted: str) -> None:
    answer = get(range=wanted)
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1024")
    assert answer.json()["error_type"] == "range_not_satisfiable"


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-2", "bytes", "",
                                    "bytes=0-1023,0-", "bytes=" + ",".join(["0-0"] * (MOST_RANGES + 1))])  # fmt: skip
def test_what_is_no_range_or_asks_for_more_than_there_is_is_ignored(
    get: Callable[..., httpx.Response], wanted: str
) -> None:
    assert (get(range=wanted).status_code, get(range=wanted).content) == (200, DATA)


def test_a_head_tells_the_same_without_the_bytes(get: Callable[..., httpx.Response]) -> None:
    answer = get("HEAD")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "1024")
    part = get("HEAD", range="bytes=0-9")
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


def test_a_part_is_given_only_of_the_file_it_belongs_to(get: Callable[..., httpx.Response]) -> None:
    etag, modified = get().headers["etag"], get().headers["last-modified"]
    assert get(range="bytes=0-9", if_range=etag).status_code == 206
    assert get(range="bytes=0-9", if_range=modified).status_code == 206
    assert get(range="bytes=0-9", if_range='"other"').status_code == 200
    assert get(if_none_match=f'W/{etag}, "x"').status_code == 304
    assert get(if_none_match='"x"').status_code == 200


def test_a_file_that_is_not_there_is_a_404_in_json(
    get: Callable[..., httpx.Response], url: str, client: httpx.Client
) -> None:
    file_id, name = url.split("/")[-2:]
    for path in (f"/cdn/files/{new_file_id()}/{name}", f"/cdn/files/{file_id}/other.html", "/cdn/files/x/y"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")


def test_an_empty_file_is_sent_and_has_no_ranges(client: httpx.Client) -> None:
    url = client.post("/cdn/files/upload", content=b"").json()["access_url"]
    assert (client.get(url).status_code, client.get(url).content) == (200, b"")
    assert client.get(url, headers={"range": "bytes=0-"}).status_code == 416


def test_several_ranges_come_in_the_order_asked_as_the_parts_of_one_message(get: Callable[..., httpx.Response]) -> None:
    answer = get(range="bytes=1000-, 0-9, 5000-, -4")
    assert answer.status_code == 206
    assert int(answer.headers["content-length"]) == len(answer.content)
    head = f"content-type: {answer.headers['content-type']}\n\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    parts = [(part["content-range"], part.get_payload(decode=True)) for part in message.iter_parts()]
    wanted = [(1000, 1024), (0, 10), (1020, 1024)]
    assert parts == [(f"bytes {start}-{end - 1}/1024", DATA[start:end]) for start, end in wanted]
    assert {part.get_content_type() for part in message.iter_parts()} == {"text/html"}
    assert get("HEAD", range="bytes=0-1,3-4").status_code == 206


def test_conditions_about_the_whole_file_are_kept(get: Callable[..., httpx.Response]) -> None:
    etag, modified = get().headers["etag"], get().headers["last-modified"]
    old, new = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for answer, status in (
        (get(if_match=f'"x", {etag}'), 200), (get(if_match="*"), 200), (get(if_match='"x"'), 412),
        (get(if_match=f"W/{etag}"), 412), (get(if_unmodified_since=modified), 200), (get(if_unmodified_since=old), 412),
        (get(if_modified_since=modified), 304), (get(if_modified_since=old), 200), (get(if_modified_since=new), 304),
        (get(if_modified_since="yesterday"), 200), (get(if_none_match='"x"', if_modified_since=new), 200),
        (get(if_match=etag, if_unmodified_since=old), 200), (get(if_none_match="*"), 304),
    ):  # fmt: skip
        assert answer.status_code == status, answer.request.headers
    assert get(if_match='"x"').json()["error_type"] == "precondition_failed"
    assert get(if_none_match=etag, range="bytes=0-9").status_code == 304


def test_nothing_keeps_a_file_longer_than_it_lasts(client: httpx.Client) -> None:
    headers = {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 100}'}
    url = client.post("/cdn/files/upload", content=b"x", headers=headers).json()["access_url"]
    kept = int(client.get(url).headers["cache-control"].partition("max-age=")[2])
    assert 0 <= kept <= 100


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "text/xml"])
def test_nothing_that_was_uploaded_runs_as_a_page_or_script_of_ours(client: httpx.Client, kind: str) -> None:
    data = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"
    for sent in (kind, f"{kind}; charset=utf-8"):
        url = client.post("/cdn/files/upload", content=data, headers={"content-type": sent}).json()["access_url"]
        answer = client.get(url)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"].startswith("sandbox;")
        assert answer.headers["x-content-type-options"] == "nosniff"


@given(st.text() | st.from_regex(r"bytes=[0-9]*-[0-9]*(,[0-9]*-[0-9]*)*"), st.integers(0, 2000))
def test_any_range_lies_within_the_file(header: Any, size: Any) -> None:
    spans = spans_of(header, size)
    assert spans is None or all(0 <= start < end <= size for start, end in spans)
    assert sum(end - start for start, end in spans or ()) <= size


FORBIDDEN = '{"initial_acl": {"default": "forbid", "rules": [{"user": "guest", "decision": "allow"}]}}'
HIDDEN = '{"initial_acl": {"default": "hide"}}'


@pytest.fixture
def anyone(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def guest(server: WebServer) -> Iterator[httpx.Client]:
    """Somebody with a key of another name."""
    _, key = server.call(lambda store: store.keys.create("guest"))
    headers = {"Authorization": f"Key {key}"}
    with httpx.Client(base_url=server.origin, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def upload(client: httpx.Client, lifecycle: Any) -> str:
    headers = {"x-fal-file-name": "photos.zip", "x-fal-object-lifecycle": lifecycle}
    return client.post("/cdn/files/upload", content=b"PK", headers=headers).json()["access_url"]


def test_a_forbidden_file_opens_to_its_owner_and_to_whom_its_list_names(
    client: httpx.Client, anyone: httpx.Client, guest: httpx.Client
) -> None:
    url = upload(client, FORBIDDEN)
    refused = anyone.get(url)
    assert (refused.status_code, refused.json()["error_type"]) == (403, "forbidden")
    assert anyone.get(url, headers={"Authorization": "Key wrong"}).status_code == 403
    assert anyone.head(url).status_code == 403
    assert client.get(url).content == guest.get(url).content == b"PK"
    assert client.get(url).headers["cache-control"] == "private, no-cache"


def test_a_hidden_file_cannot_be_told_from_one_that_is_not_there(
    client: httpx.Client, anyone: httpx.Client, guest: httpx.Client
) -> None:
    url = upload(client, HIDDEN)
    hidden, missing = guest.get(url), guest.get(url.replace("photos", "other"))
    assert hidden.status_code == missing.status_code == anyone.get(url).status_code == 404
    assert hidden.json() == missing.json()
    assert client.get(url).status_code == 200


def test_every_way_of_uploading_keeps_the_list(client: httpx.Client, anyone: httpx.Client) -> None:
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


def test_a_signed_url_opens_a_file_until_it_ends_and_no_other_file(
    client: httpx.Client, anyone: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_a_signed_url_lasts_from_a_second_to_a_week(client: httpx.Client, body: Any) -> None:
    url = upload(client, HIDDEN)
    assert client.post("/v1/storage/files/sign", params={"url": url}, json=body).status_code == 400


def test_a_list_can_be_read_and_replaced_by_the_owner_alone(
    client: httpx.Client, anyone: httpx.Client, guest: httpx.Client
) -> None:
    url = upload(client, HIDDEN)
    place: dict[str, Any] = {"params": {"url": url}}
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


def test_a_file_that_is_not_for_a_caller_is_no_input_for_it_either(client: httpx.Client, guest: httpx.Client) -> None:
    hidden, forbidden = upload(client, HIDDEN), upload(client, FORBIDDEN)
    trainer = "/queue/fal-ai/flux-lora-portrait-trainer"
    refused = guest.post(trainer, json={"images_data_url": hidden})
    assert (refused.status_code, refused.json()["detail"][0]["type"]) == (422, "file_download_error")
    asked = client.post("/v1/storage/files/sign", params={"url": hidden}, json={"expiration_seconds": 60})
    for url in (forbidden, asked.json()["signed_url"]):
        assert guest.post(trainer, json={"images_data_url": url}).status_code == 200
    assert client.post(trainer, json={"images_data_url": hidden}).status_code == 200


def test_the_files_of_a_result_are_for_whom_its_request_said(
    client: httpx.Client, anyone: httpx.Client, server: WebServer
) -> None:
    headers = {"x-fal-object-lifecycle-preference": FORBIDDEN}
    body = {"images_data_url": upload(client, HIDDEN), "trigger_phrase": "private"}
    asked = client.post("/queue/fal-ai/flux-lora-portrait-trainer", json=body, headers=headers).json()
    server.wait(asked["request_id"], "COMPLETED")
    url = client.get(asked["response_url"]).json()["diffusers_lora_file"]["url"]
    assert (anyone.get(url).status_code, client.get(url).content) == (403, b"weights of private")
