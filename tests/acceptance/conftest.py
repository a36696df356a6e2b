"""One real server for all acceptance tests, of all workers of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fal_client
import pytest

from tests.support.images import photos_of_subject
from tests.support.python_client import swept_up, turn
from tests.support.server import PORTRAIT_TRAINER, Server, running
from tests.support.shared import made_once, started_once
from tests.support.wiretap import Wiretap, tapping


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    start = lambda: running(  # noqa: E731
        tmp_path_factory.mktemp("installation"), TLS_PORT="0", CHECKPOINT_SECONDS="2"
    )
    with started_once(tmp_path_factory, "server", start) as started:
        yield started


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos of a subject, without captions."""
    made = made_once(tmp_path_factory, "photos", lambda folder: photos_of_subject(folder / "photos.zip", 11, 10))
    return made / "photos.zip"


@pytest.fixture(scope="session")
def lora(server: Server, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answer to a short training: what several tests look at."""

    def train(folder: Path) -> None:
        body = {"images_data_url": server.upload(photos.read_bytes()), "trigger_phrase": "ohwx", "steps": 30}
        result = server.result(server.submit(PORTRAIT_TRAINER, body))
        (folder / "result.json").write_text(json.dumps(result))

    result: dict[str, Any] = json.loads((made_once(tmp_path_factory, "lora", train) / "result.json").read_text())
    return result


@pytest.fixture
def swept() -> Iterator[None]:
    """For tests that use fal's Python client: what it leaves open is gone before the next test."""
    with swept_up():
        yield


@pytest.fixture
def fal(server: Server, swept: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """fal's Python client, pointed at the server."""
    monkeypatch.setenv("FAL_KEY", server.key)
    turn(server.origin, monkeypatch)
    return fal_client


@pytest.fixture
def tap(server: Server) -> Iterator[Wiretap]:
    """Hears all that is asked of the server by way of its origin."""
    with tapping(server.origin) as heard:
        yield heard


@pytest.fixture
def turned(tap: Wiretap, monkeypatch: pytest.MonkeyPatch) -> Wiretap:
    """Whatever fal's Python client asks goes by way of the wiretap."""
    turn(tap.origin, monkeypatch)
    return tap


@pytest.fixture
def client(turned: Wiretap, server: Server) -> Iterator[fal_client.SyncClient]:
    """fal's Python client, by way of the wiretap."""
    speaking = fal_client.SyncClient(key=server.key)
    yield speaking
    speaking._client.close()
