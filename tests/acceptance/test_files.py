"""What becomes of files: they train, they are private, they hardly show in memory, they lie in a bucket."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psutil
import pytest

from tests.support.javascript import node
from tests.support.s3 import running_bucket
from tests.support.server import Server, finish, running
from tests.support.wiretap import tapping

TRAINER = "fal-ai/flux-lora-portrait-trainer"
MIB = 1024 * 1024

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_a_file_over_the_asynchronous_clients_threshold_goes_up_in_parallel_parts(
    fal: ModuleType, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        for number in range(101):  # MiB; no two parts alike
            file.write(bytes([number]) * MIB)

    async def upload() -> str:
        client = fal.AsyncClient(key=server.key)
        url: str = await client.upload_file(path)
        await (await client._client).aclose()
        return url

    seen = hashlib.sha256()
    with httpx.stream("GET", asyncio.run(upload()), trust_env=False, timeout=120) as answer:
        for chunk in answer.iter_bytes():
            seen.update(chunk)
    assert seen.digest() == hashlib.sha256(path.read_bytes()).digest()
    assert not list((server.data_dir / "uploads").glob("*/part-*")), "parts stay after their completion"


def test_parts_that_the_javascript_client_sends_again_count_once(server: Server) -> None:
    with tapping(server.origin) as tap:
        tap.losing, tap.losing_to = 2, "PUT"
        seen = node("parts", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key)
    assert [exchange.method for exchange in tap.heard].count("PUT") == 10 + 2
    kept = httpx.get(seen["url"].replace(tap.origin, server.origin), trust_env=False).content
    assert hashlib.sha256(kept).hexdigest() == seen["sum"]


@pytest.mark.parametrize("repository", ["asynchronously", "fal"])
def test_a_zip_sent_by_any_road_trains(fal: ModuleType, server: Server, photos: Path, repository: str) -> None:
    async def train() -> tuple[dict[str, Any], str]:
        client = fal.AsyncClient(key=server.key)
        url = await client.upload_file(photos)
        trained = await client.subscribe(TRAINER, {"images_data_url": url, "steps": 3})
        await (await client._client).aclose()
        return trained, url

    if repository == "asynchronously":
        trained, url = asyncio.run(train())
    else:
        url = fal.upload_file(photos, repository=repository)
        trained = fal.subscribe(TRAINER, {"images_data_url": url, "steps": 3})
    assert url.endswith("/photos.zip")
    assert httpx.head(trained["diffusers_lora_file"]["url"], trust_env=False).status_code == 200


def test_the_deprecated_name_of_a_repository_works(fal: ModuleType) -> None:
    with pytest.warns(DeprecationWarning, match="cdn"):
        url = fal.upload(b"abc", "text/plain", "notes.txt", repository="cdn")
    assert httpx.get(url, trust_env=False).content == b"abc"


@pytest.mark.parametrize("repository", ["fal_v3", "fal"])
def test_a_private_file_of_the_python_client_is_private(fal: ModuleType, server: Server, repository: str) -> None:
    acl = fal.client.StorageACL(default="forbid", rules=[fal.client.StorageACLRule(user="guest", decision="allow")])
    lifecycle = fal.client.StorageSettings(expires_in=3600, initial_acl=acl)
    url = fal.upload(b"secret", "text/plain", "secret.txt", repository=repository, lifecycle=lifecycle)
    assert httpx.get(url, trust_env=False).status_code == 403
    with server.http() as http:
        assert http.get(url).content == b"secret"
        signed = http.post("/v1/storage/files/sign", params={"url": url}, json={"expiration_seconds": 60}).json()
    assert httpx.get(signed["signed_url"], trust_env=False).content == b"secret"


def test_a_data_uri_of_300_mb_hardly_shows_in_the_web_process(server: Server) -> None:
    assert growth(server, megabytes=300) < 50_000


def growth(server: Server, *, megabytes: int) -> int:
    """By how many kB the web process is larger, at most, while it takes a request with such a data URI."""
    [web] = [child for child in psutil.Process(server.pid).children(recursive=True) if is_web(child)]
    status = Path(f"/proc/{web.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc, to see the peak of another process's memory")
    with server.http() as http:
        http.post(f"/queue/{TRAINER}", json={"images_data_url": "data:application/zip;base64," + "AAAA" * 500_000})
        Path(f"/proc/{web.pid}/clear_refs").write_text("5")  # the peak is counted from here
        before = kilobytes(status, "VmHWM")
        body = (b"A" * 1_000_000 for _ in range(megabytes))
        head, tail = b'{"images_data_url": "data:application/zip;base64,', b'"}'
        submitted = http.post(f"/queue/{TRAINER}", content=iter([head, *body, tail]))
        grown = kilobytes(status, "VmHWM") - before
        assert submitted.status_code == 200, submitted.text
        http.put(submitted.json()["cancel_url"])
    return grown


def is_web(process: psutil.Process) -> bool:
    return "tintype.web" in process.cmdline()


def kilobytes(status: Path, name: str) -> int:
    [line] = [line for line in status.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])


def test_everything_lies_in_a_bucket_where_one_is_named(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        with running(tmp_path, STORAGE=bucket.url) as server, server.http() as http:
            named = {"file_name": "photos.zip", "content_type": "application/zip"}
            begun = http.post("/rest/storage/upload/initiate-multipart", json=named).json()
            data, half = photos.read_bytes(), photos.stat().st_size // 2
            parts = [http.put(f"{begun['upload_url']}/{number}", content=part).json()
                     for number, part in ((2, data[half:]), (1, data[:half]))]  # fmt: skip
            assert http.post(f"{begun['upload_url']}/complete", json={"parts": parts}).status_code == 200
            assert httpx.get(begun["file_url"], trust_env=False).content == data
            submitted = http.post(f"/queue/{TRAINER}", json={"images_data_url": begun["file_url"], "steps": 3}).json()
            finish(http, submitted["status_url"])
            lora = http.get(submitted["response_url"]).json()["diffusers_lora_file"]
            whole = http.get(lora["url"]).content
            assert len(whole) == lora["file_size"]
            assert http.get(lora["url"], headers={"Range": "bytes=-100"}).content == whole[-100:]
            assert not (tmp_path / "files").exists()
            expiring = {"X-Fal-Object-Lifecycle": '{"expiration_duration_seconds": 0.1}'}
            gone = http.post("/cdn/files/upload", content=b"x", headers=expiring).json()["access_url"]
            time.sleep(0.2)
            assert http.get(gone).status_code == 404
            assert growth(server, megabytes=120) < 50_000  # more than may be on its way to the bucket at once
