"""What becomes of files: they train, they are private, they hardly show in memory, they lie in a bucket."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.support.javascript import node
from tests.support.memory import growth_of_web
from tests.support.server import Server
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
    assert growth_of_web(server, megabytes=300) < 50_000
