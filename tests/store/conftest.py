"""Every case runs on SQLite in memory, SQLite on disk and a real Postgres: they must not be told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import Clock

from tintype.settings import Settings
from tintype.store import NewRequest, Request, Store

LEASE_SECONDS = 30.0


@pytest.fixture
def postgres_url(postgres: str) -> str:
    return Settings(database=postgres).database_url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return Settings(data_dir=tmp_path / "new" / "data").database_url


@pytest.fixture(params=["sqlite on disk", "postgres"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A database that several processes can open."""
    return str(request.getfixturevalue("postgres_url" if request.param == "postgres" else "sqlite_url"))


@pytest.fixture(params=["memory", "sqlite on disk", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "sqlite+aiosqlite://"
    return str(request.getfixturevalue("postgres_url" if request.param == "postgres" else "sqlite_url"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    store = await Store.open(database_url, lease_seconds=LEASE_SECONDS, clock=clock)
    yield store
    await store.close()


@pytest.fixture
def submit(store: Store) -> Any:
    """Submits a training request; what is given overrides its fields."""

    async def submit(**given: Any) -> Request:
        fields: dict[str, Any] = {"endpoint_id": "fal-ai/trainer", "kind": "training", "input": {"steps": 3}} | given
        request, is_new = await store.requests.submit(NewRequest(**fields))
        assert is_new
        return request

    return submit
