"""Nothing anyone sends gives a 500, every answer says what to do, and the next request is served."""

from __future__ import annotations

import base64
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.images import archive_of, encoded
from tests.support.server import Server, finish, upload

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
PAINTER = "/queue/fal-ai/flux-lora"


def archive(**files: bytes) -> bytes:
    return archive_of({name.replace("__", "/"): content for name, content in files.items()})


def png(width: int = 64, height: int = 64) -> bytes:
    return encoded(Image.new("RGB", (width, height), (200, 40, 90)))


def traversing() -> bytes:
    return archive_of({"../../escape.png": png()})


def linked() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as written:
        link = tarfile.TarInfo("photo.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        written.addfile(link)
    return buffer.getvalue()


def bomb() -> bytes:
    return archive(**{"huge.png": b"\0" * (400 * 1024 * 1024)})


@pytest.mark.parametrize(
    ("body", "field", "kind"),
    [
        ({}, "images_data_url", "missing"),
        ({"images_data_url": ""}, "images_data_url", "value_error"),
        ({"images_data_url": "/home/me/photos.zip"}, "images_data_url", "value_error"),
        ({"images_data_url": "https://example.com/a.zip", "steps": 0}, "steps", "greater_than_equal"),
        ({"images_data_url": "https://example.com/a.zip", "steps": -1}, "steps", "greater_than_equal"),
        ({"images_data_url": "https://example.com/a.zip", "steps": "many"}, "steps", "int_parsing"),
        ({"images_data_url": "https://example.com/a.zip", "learning_rate": 1e9}, "learning_rate", "less_than_equal"),
        ({"images_data_url": "http://127.0.0.1/a.zip"}, "images_data_url", "file_download_error"),
        ({"images_data_url": "http://169.254.169.254/latest"}, "images_data_url", "file_download_error"),
        (
            {"images_data_url": "https://example.com/a.zip", "data_archive_format": "rar"},
            "data_archive_format",
            "one_of",
        ),
    ],
)
def test_what_the_schema_can_tell_is_answered_at_submit(
    server: Server, body: dict[str, Any], field: str, kind: str
) -> None:
    with server.http() as http:
        answer = http.post(TRAINER, json=body)
    assert answer.status_code == 422, answer.text
    entry = answer.json()["detail"][0]
    assert entry["loc"][:2] == ["body", field]
    assert entry["type"] == kind
    assert entry["msg"]
    assert field in answer.json()["message"] or answer.json()["message"]
    assert answer.headers["x-fal-request-id"]


def test_an_unknown_file_of_this_server_is_answered_at_submit(server: Server) -> None:
    gone = f"{server.origin}/cdn/files/{'A' * 32}/photos.zip"
    with server.http() as http:
        answer = http.post(TRAINER, json={"images_data_url": gone})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "images_data_url"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: b"not an archive at all", "photos.zip"),
        (lambda: archive(), "photos.zip"),
        (lambda: archive(**{"readme.txt": b"no pictures here"}), "photos.zip"),
        (lambda: archive(**{"a.png": b"broken", "b.jpg": b"broken too"}), "photos.zip"),
        (lambda: archive(**{"inner.zip": archive(**{"a.png": png()})}), "photos.zip"),
        (traversing, "photos.zip"),
        (linked, "photos.tar"),
        (bomb, "photos.zip"),
        (lambda: archive(**{f"{n}.txt": b"x" for n in range(20_000)}), "photos.zip"),
        (lambda: archive(**{"a.png": png()})[:-30], "photos.zip"),
    ],
    ids=[
        "no-archive",
        "empty",
        "no-image",
        "all-broken",
        "nested",
        "traversal",
        "symlink",
        "bomb",
        "too-many",
        "cut-off",
    ],
)
def test_what_needs_the_archive_ends_the_request_with_a_422(
    server: Server, make: Callable[[], bytes], name: str
) -> None:
    with server.http() as http:
        url = upload(http, make(), name)
        submitted = http.post(TRAINER, json={"images_data_url": url, "steps": 2})
        assert submitted.status_code == 200, submitted.text
        status = finish(http, submitted.json()["status_url"])
        assert status["error"]
        answer = http.get(submitted.json()["response_url"])
    assert answer.status_code == 422, answer.text
    entry = answer.json()["detail"][0]
    assert entry["loc"] == ["body", "images_data_url"]
    assert len(entry["msg"]) > 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lora.safetensors", b"\x80\x04\x95pickle"),
        ("lora.bin", b"\x80\x02}q\x00."),
        ("lora.safetensors", b""),
        ("lora.safetensors", (8).to_bytes(8, "little") + b'{"a": 1}'),
    ],
    ids=["pickle-renamed", "pickle", "empty", "no-tensors"],
)
def test_a_lora_that_is_none_is_refused_by_name(server: Server, name: str, content: bytes) -> None:
    with server.http() as http:
        url = upload(http, content, name)
        answer = http.post("/run/fal-ai/flux-lora", json={"prompt": "x", "loras": [{"path": url}]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", "loras", 0, "path"]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"null", "application/json"),
        (b'{"prompt": NaN}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"prompt": "\\ud800"}', "application/json"),
        (b"prompt=x", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_is_no_json_object_is_a_422(server: Server, content: bytes, content_type: str) -> None:
    with server.http() as http:
        answer = http.post(PAINTER, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 422, answer.text
    assert answer.json()["message"]


def test_the_next_request_is_served(server: Server) -> None:
    with server.http() as http:
        answer = http.post("/run/fal-ai/flux-lora", json={"prompt": "a portrait of a person", "sync_mode": True})
    assert answer.status_code == 200, answer.text
    header, data = answer.json()["images"][0]["url"].split(",", 1)
    assert header == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).format == "JPEG"


def test_broken_pictures_among_good_ones_are_said_and_the_rest_trains(server: Server, photos: Path) -> None:
    buffer = io.BytesIO(photos.read_bytes())
    with zipfile.ZipFile(buffer, "a") as written:
        written.writestr("broken.png", b"\x89PNG\r\n\x1a\nrest is missing")
        written.writestr("__MACOSX/._broken.png", b"junk")
    with server.http() as http:
        url = upload(http, buffer.getvalue(), "photos.zip")
        submitted = http.post(TRAINER, json={"images_data_url": url, "steps": 2, "stepz": 9})
        status = finish(http, submitted.json()["status_url"])
        assert "error" not in status, status
    said = "\n".join(line["message"] for line in status["logs"])
    assert "broken.png" in said
    assert "stepz" in said
    assert "steps" in said
