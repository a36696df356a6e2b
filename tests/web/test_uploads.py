from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.s3 import running_bucket
from tests.support.web_server import WebServer


@pytest.fixture
def anyone(server: WebServer) -> Iterator[httpx.Client]:
    """Somebody without a key."""
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60) as client:
        yield client


def initiate(
    client: httpx.Client, name: str = "photos.zip", content_type: str = "application/zip", **options: Any
) -> dict[str, Any]:
    body = {"file_name": name, "content_type": content_type}
    answer = client.post("/rest/storage/upload/initiate", params={"storage_type": "fal-cdn-v3"}, json=body, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_signed_url_takes_bytes_without_a_key_and_the_file_is_read_without_one(
    client: httpx.Client, anyone: httpx.Client
) -> None:
    urls = initiate(client, "mes photos d'été.zip")
    assert anyone.put(urls["upload_url"], content=b"PK", headers={"content-type": "x/y"}).status_code == 200
    got = anyone.get(urls["file_url"])
    assert (got.content, got.headers["content-type"]) == (b"PK", "application/zip")
    assert anyone.put(urls["upload_url"], content=b"PK").status_code == 200  # a try whose answer was lost
    assert anyone.get(urls["file_url"]).content == b"PK"


def test_a_signed_url_that_was_changed_or_is_over_is_refused(
    client: httpx.Client, anyone: httpx.Client, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = httpx.URL(initiate(client)["upload_url"])
    for changed in (
        url.copy_set_param("type", "text/html"),
        url.copy_set_param("expires", "99999999999"),
        url.copy_set_param("signature", "0" * 64),
        url.copy_remove_param("signature"),
        url.copy_with(path=url.path.replace("photos.zip", "other.zip")),
    ):
        answer = anyone.put(changed, content=b"x")
        assert (answer.status_code, answer.json()["error_type"]) == (403, "forbidden")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 4000)
    assert "expired" in anyone.put(url, content=b"x").json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "name"),
    [("application/zip", "file.zip"), ("image/png", "file.png"), ("", "file"), ("a/b", "file")],
)
def test_a_file_without_a_name_is_called_after_its_type(client: httpx.Client, content_type: str, name: str) -> None:
    answer = client.post("/cdn/files/upload", content=b"x", headers={"content-type": content_type})
    assert answer.json()["access_url"].rsplit("/", 1)[1] == name


def test_initiating_needs_a_key_and_forgives_a_poor_body(client: httpx.Client, anyone: httpx.Client) -> None:
    assert anyone.post("/rest/storage/upload/initiate", json={}).status_code == 401
    for body in (b"", b"{}", b"[]", b'{"file_name": 3, "content_type": "a\\nb"}'):
        urls = client.post("/rest/storage/upload/initiate", content=body).json()
        assert urls["file_url"].endswith("/file")


def test_parts_of_the_javascript_client_make_one_file(client: httpx.Client, anyone: httpx.Client) -> None:
    body = {"file_name": "big.zip", "content_type": "application/zip"}
    begun = client.post("/rest/storage/upload/initiate-multipart?storage_type=fal-cdn-v3", json=body).json()
    parts = []
    for number, data in ((1, b"one"), (2, b"two")):
        answer = anyone.put(f"{begun['upload_url']}/{number}", content=data)
        assert answer.json()["etag"] == answer.headers["etag"]
        parts.append(answer.json())
    for _ in range(2):  # a completion whose answer was lost is asked for again
        assert anyone.post(f"{begun['upload_url']}/complete", json={"parts": parts[::-1]}).status_code == 200
    assert anyone.get(begun["file_url"]).content == b"onetwo"


def test_parts_of_older_clients_are_asked_for_one_by_one(client: httpx.Client, anyone: httpx.Client) -> None:
    begun = client.post("/rest/storage/upload/initiate-multipart?storage_type=gcs", json={"file_name": "a.zip"}).json()
    parts = []
    for number, data in ((1, b"one"), (2, b"two")):
        place = client.post(f"{begun['upload_url']}/{number}").json()["upload_url"]
        parts.append({"part_number": number, "etag": anyone.put(place, content=data).headers["etag"]})
    assert client.post(f"{begun['upload_url']}/complete", json={"parts": parts}).status_code == 200
    assert anyone.get(begun["file_url"]).content == b"onetwo"
    assert anyone.post(begun["upload_url"][:-5] + "AAAAA/1").status_code == 404


def test_a_retry_that_overlaps_its_first_try_is_no_error(client: httpx.Client, anyone: httpx.Client) -> None:
    urls = initiate(client)
    with ThreadPoolExecutor(4) as pool:
        puts = list(pool.map(lambda _: anyone.put(urls["upload_url"], content=b"x" * 1000).status_code, range(8)))
        begun = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a.zip"}).json()
        part = anyone.put(f"{begun['upload_url']}/1", content=b"x" * 1_000_000).json()
        ends = list(
            pool.map(lambda _: anyone.post(f"{begun['upload_url']}/complete", json={"parts": [part]}), range(8))
        )
    assert set(puts) == {200}
    assert {answer.status_code for answer in ends} == {200}
    assert len(anyone.get(begun["file_url"]).content) == 1_000_000


def test_a_type_that_says_nothing_is_told_by_the_name(client: httpx.Client, anyone: httpx.Client) -> None:
    url = client.post("/cdn/files/upload", content=b"x", headers={"x-fal-file-name": "a.zip"}).json()["access_url"]
    assert anyone.get(url).headers["content-type"] == "application/zip"


def test_parts_need_a_completion_that_makes_sense(client: httpx.Client, anyone: httpx.Client) -> None:
    begun = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a"}).json()["upload_url"]
    assert anyone.put(f"{begun}/0", content=b"x").status_code == 400
    assert anyone.put(f"{begun}/99999", content=b"x").status_code == 400
    assert anyone.put(f"{begun}/1", content=b"x").status_code == 200
    body: Any
    for body in ({}, {"parts": 3}, {"parts": [3]}, {"parts": [{"partNumber": "one"}]}, {"parts": [{"partNumber": 1}]},
                 {"parts": [{"partNumber": 7, "etag": "x"}]}, [], {"parts": [{"partNumber": 1e99}]}):  # fmt: skip
        assert anyone.post(f"{begun}/complete", json=body).status_code == 400, body
    assert anyone.put(begun.replace(begun[-5:], "AAAAA") + "/1", content=b"x").status_code == 404


def test_parts_of_the_python_client_need_its_token(client: httpx.Client, anyone: httpx.Client) -> None:
    token = client.post("/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()
    bearer = {"Authorization": f"{token['token_type']} {token['token']}"}
    begun = anyone.post(f"{token['base_url']}/files/upload/multipart", headers={**bearer, "x-fal-file-name": "a.zip"})
    url, upload_id = begun.json()["access_url"], begun.json()["uploadId"]
    assert anyone.put(f"{url}/multipart/{upload_id}/1", content=b"x").status_code == 401
    etag = anyone.put(f"{url}/multipart/{upload_id}/1", content=b"x", headers=bearer).headers["etag"]
    parts = {"parts": [{"partNumber": 1, "etag": etag}]}
    other = url.replace(url.split("/")[-2], "A" * 32)
    assert anyone.post(f"{other}/multipart/{upload_id}/complete", json=parts, headers=bearer).status_code == 404
    assert anyone.post(f"{url}/multipart/{upload_id}/complete", json=parts, headers=bearer).status_code == 200
    assert anyone.get(url).content == b"x"


def test_a_token_tells_its_end_in_a_form_that_old_pythons_read_and_opens_uploads_only(
    client: httpx.Client, anyone: httpx.Client
) -> None:
    token = client.post("/rest/storage/auth/token", json={}).json()
    assert token["expires_at"].endswith("+00:00")
    left = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=10) < left <= timedelta(hours=1)
    bearer = {"Authorization": f"Bearer {token['token']}"}
    assert anyone.post("/cdn/files/upload", content=b"x", headers=bearer).status_code == 200
    assert anyone.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}, headers=bearer).status_code == 401


def test_bytes_in_one_post_become_a_file_with_its_name_and_type(client: httpx.Client, anyone: httpx.Client) -> None:
    headers: Any = {"x-fal-file-name": "../ünï code.png".encode(), "content-type": "image/png"}
    url = client.post("/cdn/files/upload", content=b"png", headers=headers).json()["access_url"]
    assert url.endswith("/%C3%BCn%C3%AF_code.png")
    got = anyone.get(url)
    assert (got.content, got.headers["content-type"]) == (b"png", "image/png")
    assert anyone.post("/cdn/files/upload", content=b"x").status_code == 401


@pytest.mark.parametrize("name", ["x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"])
def test_a_file_is_gone_when_its_time_is_over(client: httpx.Client, anyone: httpx.Client, name: str) -> None:
    lasting = {name: '{"expiration_duration_seconds": 3600}'}
    brief = {name: '{"expiration_duration_seconds": 0.2}'}
    kept = client.post("/cdn/files/upload", content=b"x", headers=lasting).json()["access_url"]
    gone = client.post("/cdn/files/upload", content=b"x", headers=brief).json()["access_url"]
    signed = initiate(client, headers=brief)
    anyone.put(signed["upload_url"], content=b"x")
    time.sleep(0.3)
    assert anyone.get(kept).status_code == 200
    assert anyone.get(gone).status_code == 404
    assert anyone.get(signed["file_url"]).status_code == 404


def cut_off(server: WebServer, method: str, path: str, *, headers: str = "") -> None:
    """Begins a call, sends half of its megabyte and hangs up."""
    host, port = server.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 1000000\r\n\r\n".encode())
        line.sendall(b"x" * 500_000)


def test_uploads_that_break_off_leave_nothing_and_can_be_begun_anew(
    client: httpx.Client, anyone: httpx.Client, server: WebServer
) -> None:
    signed = initiate(client)
    begun = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a.zip"}).json()
    part = begun["upload_url"].removeprefix(server.origin)
    cut_off(server, "PUT", signed["upload_url"].removeprefix(server.origin))
    cut_off(server, "PUT", f"{part}/1")
    cut_off(server, "POST", "/cdn/files/upload", headers=f"Authorization: Key {server.key}\r\n")
    incoming = server.settings.data_dir / "uploads" / "incoming"
    ends = time.monotonic() + 60
    while list(incoming.iterdir()):
        assert time.monotonic() < ends, list(incoming.iterdir())
        time.sleep(0.05)
    assert anyone.get(signed["file_url"]).status_code == 404
    assert not list((server.settings.data_dir / "uploads" / part.rsplit("/", 1)[1]).glob("part-*"))
    assert anyone.put(signed["upload_url"], content=b"whole").status_code == 200
    again = anyone.put(f"{begun['upload_url']}/1", content=b"whole").json()
    assert anyone.post(f"{begun['upload_url']}/complete", json={"parts": [again]}).status_code == 200
    assert anyone.get(signed["file_url"]).content == anyone.get(begun["file_url"]).content == b"whole"


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(
    tmp_path: Path, start: Callable[..., WebServer]
) -> None:
    server = start(data_dir=tmp_path, max_upload_bytes=1000)
    with server.client() as client:
        answer = client.post("/cdn/files/upload", content=b"x" * 100_000)
        assert (answer.status_code, answer.json()["error_type"]) == (413, "payload_too_large")
        assert "TINTYPE_MAX_UPLOAD_BYTES" in answer.json()["detail"]
        assert client.post("/cdn/files/upload", content=b"x" * 1000).status_code == 200
    assert not list((tmp_path / "uploads" / "incoming").iterdir())


def test_a_body_over_the_limit_is_refused(tmp_path: Path, start: Callable[..., WebServer]) -> None:
    server = start(data_dir=tmp_path, max_body_bytes=1000)
    with server.client() as client:
        whole = client.post("/queue/fal-ai/flux-lora", content=b" " * 2000)
        streamed = client.post("/queue/fal-ai/flux-lora", content=iter([b" " * 600] * 4))
    for answer in (whole, streamed):
        assert (answer.status_code, answer.json()["error_type"]) == (413, "payload_too_large")


def test_a_bucket_that_refuses_is_said_to_and_keeps_nothing_here(
    tmp_path: Path, start: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        server = start(data_dir=tmp_path, storage="s3://no-such-bucket/x")
        with server.client() as client:
            for answer in (
                client.post("/cdn/files/upload", content=b"x"),
                client.put(initiate(client)["upload_url"], content=b"x"),
                client.post(
                    "/queue/fal-ai/flux-lora-portrait-trainer",
                    json={"images_data_url": "data:application/zip;base64," + "AAAA" * 50_000},
                ),
            ):
                assert (answer.status_code, answer.json()["error_type"]) == (503, "storage_unavailable")
                assert "TINTYPE_STORAGE" in answer.json()["detail"]
    assert not list((tmp_path / "uploads" / "incoming").iterdir())


def test_a_complete_upload_takes_no_other_bytes_and_its_new_list_stays(
    client: httpx.Client, anyone: httpx.Client
) -> None:
    urls = initiate(client)
    assert anyone.put(urls["upload_url"], content=b"PK").status_code == 200
    hide = {"default": "hide"}
    listed = client.put("/v1/storage/files/acl", params={"url": urls["file_url"]}, json=hide)
    assert listed.status_code == 200
    for content in (b"PK2", b"QK", b"", b"PK" * 1000):
        assert anyone.put(urls["upload_url"], content=content).status_code == 403
    assert anyone.put(urls["upload_url"], content=b"PK").status_code == 200
    assert client.get("/v1/storage/files/acl", params={"url": urls["file_url"]}).json()["default"] == "hide"
    assert client.get(urls["file_url"]).content == b"PK"
    assert anyone.get(urls["file_url"]).status_code == 404


def test_of_other_bytes_that_come_together_one_is_kept_and_the_rest_refused(
    client: httpx.Client, anyone: httpx.Client
) -> None:
    for _ in range(5):
        urls = initiate(client)
        with ThreadPoolExecutor(6) as pool:
            sent = [pool.submit(anyone.put, urls["upload_url"], content=b"%d" % number) for number in range(6)]
        codes = [answer.result().status_code for answer in sent]
        assert sorted(codes) == [200, 403, 403, 403, 403, 403]
        assert anyone.get(urls["file_url"]).content == b"%d" % codes.index(200)


def test_a_complete_upload_takes_no_more_parts(client: httpx.Client, anyone: httpx.Client) -> None:
    begun = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a.zip"}).json()
    part = anyone.put(f"{begun['upload_url']}/1", content=b"one").json()
    assert anyone.post(f"{begun['upload_url']}/complete", json={"parts": [part]}).status_code == 200
    assert anyone.put(f"{begun['upload_url']}/1", content=b"two").status_code == 403
    assert anyone.put(f"{begun['upload_url']}/2", content=b"two").status_code == 403
    assert anyone.post(f"{begun['upload_url']}/complete", json={"parts": [part]}).status_code == 200
    assert anyone.get(begun["file_url"]).content == b"one"


def test_a_list_of_ten_thousand_parts_is_read(client: httpx.Client, anyone: httpx.Client) -> None:
    begun = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a.zip"}).json()
    parts = [{"partNumber": number, "etag": "x" * 32} for number in range(1, 10_001)]
    refused = anyone.post(f"{begun['upload_url']}/complete", json={"parts": parts})
    assert (refused.status_code, refused.json()["detail"][:6]) == (400, "Part 1")
    assert anyone.post(f"{begun['upload_url']}/complete", content=b" " * 2_000_000).status_code == 413


def test_what_was_begun_with_a_key_ends_with_it(client: httpx.Client, anyone: httpx.Client, server: WebServer) -> None:
    key, text = server.call(lambda store: store.keys.create("leaver"))
    theirs = {"Authorization": f"Key {text}"}
    token = client.post("/rest/storage/auth/token", headers=theirs).json()["token"]
    signed = initiate(client, headers=theirs)["upload_url"]
    parts = client.post("/rest/storage/upload/initiate-multipart", json={}, headers=theirs).json()["upload_url"]
    uploads = {
        "token": lambda: anyone.post("/cdn/files/upload", content=b"x", headers={"Authorization": f"Bearer {token}"}),
        "signed URL": lambda: anyone.put(signed, content=b"x"),
        "part": lambda: anyone.put(f"{parts}/1", content=b"x"),
    }
    assert {name: upload().status_code for name, upload in uploads.items()} == dict.fromkeys(uploads, 200)
    server.call(lambda store: store.keys.revoke(key.id))
    uploads["next part"] = lambda: anyone.put(f"{parts}/2", content=b"x")
    uploads["completion"] = lambda: anyone.post(f"{parts}/complete", json={"parts": []})
    assert {name: upload().status_code for name, upload in uploads.items()} == dict.fromkeys(uploads, 401)


def test_what_is_being_sent_when_its_key_is_revoked_is_not_kept(
    client: httpx.Client, anyone: httpx.Client, server: WebServer
) -> None:
    def begin(headers: dict[str, str]) -> dict[str, tuple[str, str, dict[str, str]]]:
        token = client.post("/rest/storage/auth/token", headers=headers).json()["token"]
        parts = client.post("/rest/storage/upload/initiate-multipart", json={}, headers=headers).json()["upload_url"]
        return {
            "key": ("POST", "/cdn/files/upload", headers),
            "token": ("POST", "/cdn/files/upload", {"Authorization": f"Bearer {token}"}),
            "signed URL": ("PUT", initiate(client, headers=headers)["upload_url"], {}),
            "part": ("PUT", f"{parts}/1", {}),
            "completion": ("POST", f"{parts}/complete", {}),
            "input": ("POST", "/queue/fal-ai/flux-lora", headers),
            "settings": ("POST", "/rest/tokens/", headers),
        }

    def bytes_around(revoke: Callable[[], object]) -> Iterator[bytes]:
        yield b"{" * 5000
        time.sleep(0.1)
        revoke()
        yield b"}" * 5000

    codes = {}
    before = sorted(server.settings.data_dir.glob("files/*")), sorted(server.settings.data_dir.glob("uploads/*/part-*"))
    for what in ("key", "token", "signed URL", "part", "completion", "input", "settings"):
        key, text = server.call(lambda store: store.keys.create("leaver"))
        method, url, headers = begin({"Authorization": f"Key {text}"})[what]
        revoke = partial(server.call, lambda store, key=key: store.keys.revoke(key.id))  # type: ignore[misc]
        codes[what] = anyone.request(method, url, headers=headers, content=bytes_around(revoke)).status_code
    assert codes == dict.fromkeys(codes, 401)
    after = sorted(server.settings.data_dir.glob("files/*")), sorted(server.settings.data_dir.glob("uploads/*/part-*"))
    for left, stood in zip(after, before, strict=True):  # what other tests left may go meanwhile
        assert set(left) <= set(stood)


def test_what_is_said_to_be_too_large_is_refused_before_its_bytes_come(
    tmp_path: Path, start: Callable[..., WebServer]
) -> None:
    server = start(data_dir=tmp_path, max_upload_bytes=1_000_000, max_stored_bytes=500_000, max_body_bytes=2_000_000)
    with server.client() as client:
        parts = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "a.zip"}).json()["upload_url"]
        signed = initiate(client)["upload_url"]

    def answered(method: str, url: str, size: int) -> int:
        """Sends a head and no body."""
        at = httpx.URL(url)
        head = f"{method} {at.raw_path.decode()} HTTP/1.1\r\nHost: {at.netloc.decode()}\r\nContent-Length: {size}\r\n"
        with socket.create_connection((at.host, at.port or 80), timeout=60) as connection:
            connection.sendall(f"{head}Authorization: Key {server.key}\r\n\r\n".encode())
            return int(connection.recv(4096).split()[1])

    for method, url in (("POST", f"{server.origin}/cdn/files/upload"), ("PUT", signed), ("PUT", f"{parts}/1")):
        assert [answered(method, url, size) for size in (10**15, 1_000_001, 600_000)] == [413, 413, 429]
    assert answered("POST", f"{server.origin}/queue/fal-ai/flux-lora", 2_000_001) == 413
    assert answered("POST", f"{parts}/complete", 1_100_000) == 413
    assert not list((tmp_path / "uploads" / "incoming").glob("*"))
