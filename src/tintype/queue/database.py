"""One connection to SQLite or Postgres that behaves the same, so that the rest of the queue is written once.

What differs between the two is settled here and nowhere else:

- SQLite has one writer. Writes begin with BEGIN IMMEDIATE (a deferred transaction that reads first and writes later
  can fail at the upgrade, whatever the busy timeout), and writers of one process take turns at a lock instead of
  polling the file. Reads are single statements, each its own snapshot (WAL), and need no BEGIN.
- Python's sqlite3 module would begin transactions by its own rules; `isolation_level=None` turns that off.
- An in-memory database is one connection, so reads take turns as well.
- Postgres has many writers: rows are locked where they are read for a change, and what spans rows (an idempotency key,
  the order of a lane) is held by an advisory lock until the transaction ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tintype.errors import SettingsError
from tintype.queue.schema import SCHEMA_VERSION

BUSY_SECONDS = 30.0  # how long a writer waits for another process before it gives up
POOL_SIZE = 5
MIGRATION_LOCK = 0x74696E74  # "tint": the advisory lock that Postgres migrations take turns at


class Database:
    """Reads and writes; see the module's text."""

    def __init__(self, engine: AsyncEngine, path: Path | None) -> None:
        self.sqlite = engine.dialect.name == "sqlite"
        self._path = path  # of a SQLite file; None for memory and Postgres
        self._engine = engine
        self._reader = engine if self.sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = engine.execution_options(writes=True)
        self._turn = asyncio.Lock() if self.sqlite else None
        self._in_memory = self.sqlite and path is None

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connects, and migrates if the schema is not the newest. Raises SettingsError for one from the future."""
        database = cls(*_connect(url))
        try:
            if not await database._is_current():
                await database._migrate()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one or several independent reads."""
        if self._in_memory and self._turn is not None:
            async with self._turn, self._reader.connect() as connection:
                yield connection
        else:
            async with self._reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, durable once the block has been left without an error."""
        if self._turn is not None:
            async with self._turn, self._writer.begin() as connection:
                yield connection
        else:
            async with self._writer.begin() as connection:
                yield connection

    async def take_turns(self, connection: AsyncConnection, subject: str) -> None:
        """Until the transaction ends, no other one that names the same subject goes on. (SQLite writers always do.)"""
        if not self.sqlite:
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:s, 0))"), {"s": subject})

    async def _is_current(self) -> bool:
        async with self.read() as connection:
            if self._path and (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() != "wal":
                return False
            return await connection.run_sync(stored_version) == SCHEMA_VERSION

    async def _migrate(self) -> None:
        """Safe with several processes at once: all but the first wait, then find the work done."""
        if self._path is None:
            async with self.write() as connection:
                if not self.sqlite:
                    await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                await connection.run_sync(_upgrade)
            return
        # Switching to WAL does not honour the busy timeout, hence a lock beside the file.
        from filelock import AsyncFileLock

        async with AsyncFileLock(f"{self._path}.migrating", run_in_executor=True, thread_local=False):
            async with self.read() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            async with self.write() as connection:
                await connection.run_sync(_upgrade)


def stored_version(connection: sa.Connection) -> str | None:
    """The migration the database is at; None for an empty one."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: sa.Connection) -> None:
    """Runs the missing migrations in the caller's transaction. Alembic is imported only here: it costs 0.3 s."""
    stored = stored_version(connection)
    if stored == SCHEMA_VERSION:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # The path goes through ConfigParser, to which a percent sign means a reference.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in known:
        raise SettingsError(
            f"The database was written by a newer tintype (schema {stored}, known here up to {SCHEMA_VERSION}).",
            remedy="Install that version again, or start with another data directory.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _connect(url: str) -> tuple[AsyncEngine, Path | None]:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(parsed, pool_size=POOL_SIZE, pool_pre_ping=True), None
    path = None
    if parsed.database and parsed.database != ":memory:":
        path = Path(parsed.database).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {} if path is None else {"pool_size": POOL_SIZE}
    engine = create_async_engine(parsed, connect_args={"isolation_level": None, "timeout": BUSY_SECONDS}, **options)

    @sa.event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        # FULL: an answered request must survive a power cut, not only a crash of ours.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine, path
