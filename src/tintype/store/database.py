"""One connection to SQLite or Postgres that behaves the same, so that the rest of the store is written once.

What differs between the two is settled here and nowhere else:

- SQLite has one writer. Writes begin with BEGIN IMMEDIATE (a deferred transaction that reads first and writes later
  can fail at the upgrade, whatever the busy timeout), and writers of one process take turns at a lock instead of
  polling the file. Reads are single statements, each its own snapshot (WAL), and need no BEGIN.
- Python's sqlite3 module would begin transactions by its own rules; `isolation_level=None` turns that off.
- A connection abandoned in the middle of a statement may hold the write lock for up to the busy timeout. So whoever
  is cancelled while waiting here (its client hung up) stops waiting, but what was begun is finished.
- An in-memory database is one connection, so reads take turns as well.
- A row that is looked up by its key in a SQLite file is there in microseconds; handing that to a thread costs a hundred
  times as much. So look_up, which every poll needs, reads on the spot.
- What is deleted stays in the file until something else needs the room; secure_delete and `scrub` see to that.
- Postgres has many writers: rows are locked where they are read for a change, and what spans rows (an idempotency key,
  the order of a lane) is held by an advisory lock until the transaction ends.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tintype.errors import SettingsError, StorageFull
from tintype.files.disk import check_room
from tintype.store.schema import SCHEMA_VERSION, cleaned, metadata

BUSY_SECONDS = 30.0  # how long a writer waits for another process before it gives up
POOL_SIZE = 5
SCRUBS = 50  # tries, a tenth of a second apart
FULL_NAMES = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")  # what SQLite makes of a quota
FULL_WORDS = frozenset({"full", "space"})  # "database or disk is full"; Postgres: "No space left on device"
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x74696E74  # "tint": the advisory lock that Postgres migrations take turns at

AnyRow = sa.Row[*tuple[Any, ...]]
R = TypeVar("R")


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
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._at_hand: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connects, and migrates if the schema is not the newest. Raises SettingsError for a database that cannot be
        reached, or whose schema is from the future."""
        try:
            database = cls(*_connect(url))
        except (sa.exc.ArgumentError, ImportError, OSError) as problem:
            raise _unusable(url, problem) from problem
        try:
            if not await database._is_current():
                await database._migrate()
        except (sa.exc.DBAPIError, OSError) as problem:
            await database.close()
            raise _unusable(url, problem) from problem
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Lets what has begun be finished, then ends all connections."""
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        if self._at_hand is not None:
            self._at_hand.close()
        await self._engine.dispose()

    async def to_the_end(self, work: Coroutine[Any, Any, R]) -> R:
        """Runs `work` whole, whatever becomes of the caller."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def fetch(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[AnyRow]:
        """Returns all rows of one read."""
        return await self.to_the_end(self._fetch(query))

    async def look_up(self, statement: str, key: str) -> Sequence[Any] | None:
        """Returns the one row that `statement` finds by `:key`; it has to be a look at an index, for nothing else runs
        meanwhile."""
        if self._path is not None:
            try:
                return self._look_up_now(statement, key)
            except sqlite3.OperationalError:  # locked for a moment, or the disk is in trouble: the longer way knows
                pass
        rows = await self.to_the_end(self._fetch(sa.text(statement).bindparams(key=key)))
        return rows[0] if rows else None

    def _look_up_now(self, statement: str, key: str) -> Sequence[Any] | None:
        if self._at_hand is None:
            self._at_hand = sqlite3.connect(self._path or "", timeout=0, isolation_level=None, check_same_thread=False)
        # All of them, though there is one: a statement that has not come to its end would hold on to what it saw.
        rows: list[Sequence[Any]] = self._at_hand.execute(statement, {"key": key}).fetchall()
        return rows[0] if rows else None

    async def _fetch(self, query: sa.Executable) -> Sequence[AnyRow]:
        async with self._read() as connection:
            return (await connection.execute(query)).all()

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        turn = self._turn if self._in_memory else None
        async with turn or nullcontext(), self._reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Opens a transaction, durable once the block has been left without an error. Raises StorageFull. For methods
        that are run to_the_end."""
        try:
            async with self._turn or nullcontext(), self._writer.begin() as connection:
                yield connection
        except sa.exc.OperationalError as problem:
            named = getattr(problem.orig, "sqlite_errorname", "") in FULL_NAMES
            if not named and FULL_WORDS.isdisjoint(str(problem.orig).lower().split()):
                raise
            raise StorageFull(
                "The disk that holds the database is full, so nothing new can be kept.",
                remedy="Make room on it (`tintype doctor` shows how much there is), then send this again.",
            ) from problem

    async def execute(self, statement: sa.Executable) -> Sequence[AnyRow]:
        """Runs one statement that writes as a transaction of its own; returns the rows it gives back, if any."""
        return await self.to_the_end(self._execute(statement))

    async def _execute(self, statement: sa.Executable) -> Sequence[AnyRow]:
        async with self.write() as connection:
            result = await connection.execute(statement)
            return result.all() if result.returns_rows else ()

    async def scrub(self) -> None:
        """Has the files of the database give up rows as they were before they were changed or removed."""
        if self._path is not None:  # what was freed is overwritten at once (secure_delete), but the log has it still
            async with self._turn or nullcontext(), self._reader.connect() as connection:
                for _ in range(SCRUBS):  # whoever reads or writes just then, in another process, keeps it from its end
                    if not (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).scalar():
                        return
                    await asyncio.sleep(0.1)
        elif not self.sqlite:
            async with self._reader.connect() as connection:
                for table in metadata.tables:
                    await connection.exec_driver_sql(f"VACUUM {table}")

    async def take_turns(self, connection: AsyncConnection, subject: str) -> None:
        """Holds up other transactions that name the same subject until this one ends. (SQLite writers always do.)"""
        if not self.sqlite:
            lock = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:s, 0))")
            await connection.execute(lock, {"s": cleaned(subject)})

    async def _is_current(self) -> bool:
        async with self._read() as connection:
            if self._path and (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() != "wal":
                return False
            return await connection.run_sync(stored_version) == SCHEMA_VERSION

    async def _migrate(self) -> None:
        """Runs missing migrations. Of several processes at once all but the first wait, then find the work done."""
        if self._path is None:
            async with self.write() as connection:
                if not self.sqlite:
                    await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                await connection.run_sync(_upgrade)
            return
        # Switching to WAL does not honour the busy timeout, hence a lock beside the file.
        from filelock import AsyncFileLock

        async with AsyncFileLock(f"{self._path}.migrating", run_in_executor=True, thread_local=False):
            if self._path.exists():
                check_room(self._path.parent, 2 * self._path.stat().st_size)  # a migration may write every page anew
            async with self._read() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            async with self.write() as connection:
                await connection.run_sync(_upgrade)


def stored_version(connection: sa.Connection) -> str | None:
    """Tells the migration the database is at; None for an empty one."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: sa.Connection) -> None:
    """Makes the tables of a new database, or runs the migrations that an older one lacks, in the caller's transaction.
    Alembic is imported only here: it costs 0.3 s."""
    stored = stored_version(connection)
    if stored == SCHEMA_VERSION:
        return
    if stored is None:
        metadata.create_all(connection)
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{SCHEMA_VERSION}')")
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # The path goes through ConfigParser, to which a percent sign means a reference.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored not in known:
        age = "a newer" if stored > SCHEMA_VERSION else "too old a"
        raise SettingsError(
            f"The database was written by {age} tintype (schema {stored}; {min(known)} to {max(known)} are read here).",
            remedy="Install that version again, or start with another data directory.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _unusable(url: str, problem: Exception) -> SettingsError:
    try:
        shown = sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        shown = "the address given"
    reason = str(getattr(problem, "orig", problem)).strip().split("\n")[0]
    return SettingsError(
        f"The database cannot be opened ({shown}): {reason}.",
        remedy="Check that it is there, may be written, and is named as postgresql://… or sqlite:///… in --database.",
    )


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
        # What is deleted is overwritten with zeros: a photo or a prompt that a person had forgotten is gone.
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine, path
