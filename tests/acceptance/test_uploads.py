"""Every road by which the real clients upload, at their real thresholds.

The Python client takes the next road without a word when one fails, so which one was taken is looked at as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from pathlib import Path
from urllib.parse import quote

import fal_client
import fal_client.client as names
import httpx
import pytest
from PIL import Image

from tests.support.javascript import node
from tests.support.server import Server
from tests.support.wiretap import Wiretap

pytestmark = [
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

TOKEN = "POST /rest/storage/auth/token?storage_type=fal-cdn-v3"
LARGE = names.MULTIPART_THRESHOLD + 1


def read(url: str) -> httpx.Response:
    """By anyone: no key."""
    return httpx.get(url, trust_env=False, timeout=60)


def test_bytes_texts_and_pictures_from_python(client: fal_client.SyncClient, tap: Wiretap) -> None:
    named = client.upload(b"PK\x03\x04", "application/zip", "meine photos.zip")
    assert named.endswith("/meine_photos.zip")
    assert read(named).headers["content-type"] == "application/zip"
    unnamed = client.upload("Grüße", "text/plain")
    assert read(unnamed).text == "Grüße"
    picture = client.upload_image(Image.new("RGB", (8, 8), "red"), format="png")
    assert Image.open(io.BytesIO(read(picture).content)).size == (8, 8)
    assert read(picture).headers["content-type"] == "image/png"
    assert tap.lines[:2] == [TOKEN, "POST /cdn/files/upload"]
    assert [exchange.status for exchange in tap.heard] == [200] * len(tap.heard)


def test_a_file_that_expires_from_python(client: fal_client.SyncClient, tap: Wiretap) -> None:
    url = client.upload(b"soon gone", "text/plain", lifecycle=fal_client.StorageSettings(expires_in=1))
    deadline = time.monotonic() + 30
    while (answer := read(url)).status_code == 200:
        assert answer.content == b"soon gone"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert answer.status_code == 404
    assert tap.lines[:2] == [TOKEN, "POST /cdn/files/upload"]


def test_the_older_road_from_python(client: fal_client.SyncClient, tap: Wiretap) -> None:
    url = client.upload(b"abc", "text/plain", "a b.txt", repository="fal")
    assert read(url).content == b"abc"
    assert tap.lines[0] == "POST /rest/storage/upload/initiate?storage_type=gcs"
    assert tap.heard[1].method == "PUT"


def test_a_large_file_from_python_goes_in_parts(client: fal_client.SyncClient, tap: Wiretap, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file:  # no two parts alike
        for number in range(LARGE // 4096 + 1):
            file.write(number.to_bytes(4, "big") * 1024)
        file.truncate(LARGE)
    with path.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    url = client.upload_file(path)
    assert fingerprint(url) == (LARGE, expected)
    assert tap.lines[:2] == [TOKEN, "POST /cdn/files/upload/multipart"]
    assert [exchange.method for exchange in tap.heard[2:-1]] == ["PUT"] * 11 + ["POST"]
    assert {exchange.status for exchange in tap.heard} == {200}


def fingerprint(url: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with httpx.stream("GET", url, trust_env=False) as answer:
        for part in answer.iter_bytes():
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()


def test_from_asynchronous_python(turned: Wiretap, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    path.write_bytes(b"PK\x03\x04 and more")

    async def upload() -> list[str]:
        client = fal_client.AsyncClient(key=server.key)
        urls = [
            await client.upload_file(path),
            await client.upload(b"abc", "text/plain", repository="fal"),
            await client.upload_image(Image.new("RGB", (8, 8))),
        ]
        await (await client._client).aclose()
        return urls

    file, older, picture = asyncio.run(upload())
    assert file.endswith("/photos.zip")
    assert read(file).content == path.read_bytes()
    assert read(older).content == b"abc"
    assert read(picture).headers["content-type"] == "image/jpeg"
    assert {exchange.status for exchange in turned.heard} == {200}


def test_from_javascript_and_what_is_in_an_input(server: Server, tap: Wiretap, photos: Path) -> None:
    seen = node("uploads", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, PHOTOS=str(photos))
    named = read(seen["named"])
    assert named.text == "Grüße"
    assert quote("grüße_aus_köln.txt") in named.headers["content-disposition"]
    assert read(seen["unnamed"]).headers["content-type"] == "image/png"
    assert seen["unnamed"].endswith(".png")
    assert read(seen["untyped"]).content == b"no type"
    assert read(seen["passing"]).status_code == 404  # the upload and the training after it took more than its second
    assert fingerprint(seen["large"]) == (90 * 1024 * 1024 + 1, seen["largeSum"])
    assert seen["fields"] == ["config_file", "diffusers_lora_file"]
    assert seen["drawn"] == 1
    uploading = [exchange for exchange in tap.heard if exchange.method == "PUT"]
    assert len(uploading) == 4 + 10 + 2
    assert not any("authorization" in exchange.headers for exchange in uploading)
    assert {exchange.status for exchange in tap.heard if exchange.method != "GET"} == {200}
