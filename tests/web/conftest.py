"""The web half on loopback, once for all tests of this room, and a store of a test's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.web_server import WebServer, serving

from tintype.settings import Settings
from tintype.store.store import Store


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"))) as running:
        yield running


@pytest.fixture
def client(server: WebServer) -> Iterator[httpx.Client]:
    server.release()
    with server.client() as client:
        yield client
    server.clear()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    opened = await Store.open(settings.database_url)
    yield opened
    await opened.close()


@pytest.fixture
def start() -> Iterator[Callable[..., WebServer]]:
    """Starts servers of other settings, for one test."""
    with contextlib.ExitStack() as running:
        yield lambda **settings: running.enter_context(serving(Settings(**settings)))
