"""What the queue asks of SQLite and Postgres, and what it costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tintype.errors import SettingsError, StorageFull
from tintype.store import NewRequest, Store

pytestmark = pytest.mark.anyio

ACTOR = Path(__file__).parent / "actor.py"
DRAW = NewRequest("fal-ai/flux-lora", "inference", {"prompt": "x"})


async def test_a_disk_database_survives_power_cuts_and_has_readers_beside_its_writer(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    async with store._database.write() as connection:
        settings = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        reader = await asyncio.wait_for(store.requests.list(), 30)
    assert reader == []
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    await store.close()


@pytest.mark.slow
async def test_opening_a_current_database_does_not_load_alembic(shared_url: str) -> None:
    await (await Store.open(shared_url)).close()
    code = (
        "import asyncio, sys; from tintype.store import Store\n"
        "async def main(): await (await Store.open(sys.argv[1])).close()\n"
        "asyncio.run(main()); print([name for name in ('alembic', 'torch', 'numpy') if name in sys.modules])"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, shared_url], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
async def test_several_processes_may_open_an_empty_database_at_once(shared_url: str) -> None:
    openers = [
        await asyncio.create_subprocess_exec(sys.executable, str(ACTOR), "submit", shared_url, "1") for _ in range(3)
    ]
    assert [await opener.wait() for opener in openers] == [0] * 3
    store = await Store.open(shared_url)
    assert len(await store.requests.list()) == 3
    await store.close()


@pytest.mark.parametrize(("version", "age"), [("9999", "a newer"), ("0003", "too old a")])
async def test_a_database_of_another_time_is_refused_with_a_remedy(shared_url: str, version: str, age: str) -> None:
    store = await Store.open(shared_url)
    async with store._database.write() as connection:
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")
    await store.close()
    with pytest.raises(SettingsError, match=rf"{age} tintype \(schema {version}"):
        await Store.open(shared_url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://someone:hush@127.0.0.1:1/none",
        "sqlite+aiosqlite:////dev/null/no/folder.db",
        "sqlite+aiosqlite:////dev/null",
        "mysql://someone:hush@127.0.0.1/none",
        "hush",
    ],
)
async def test_a_database_that_cannot_be_opened_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="--database") as caught:
        await Store.open(url)
    assert "hush" not in str(caught.value)


async def test_a_full_disk_is_said_so_and_harms_nothing(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    async with store._database.write() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
    sa.event.listen(
        store._database._engine.sync_engine,
        "begin",
        lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").close(),
    )
    with pytest.raises(StorageFull, match="full"):
        await store.requests.submit(NewRequest("e", "training", {"text": "x" * 1_000_000}))
    assert await store.requests.list() == []
    await store.keys.create("small enough")
    await store.close()


async def test_a_copied_database_that_lost_its_wal_mode_gets_it_back(sqlite_url: str) -> None:
    for _ in range(2):
        store = await Store.open(sqlite_url)
        async with store._database._read() as connection:
            assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
            await connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        await store.close()


async def test_a_failed_write_leaves_nothing_behind(store: Store) -> None:
    async def interrupted() -> None:
        async with store._database.write() as connection:
            await connection.execute(sa.text("INSERT INTO secrets (name, value) VALUES ('half', 'x')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await interrupted()
    async with store._database._read() as connection:
        assert (await connection.execute(sa.text("SELECT count(*) FROM secrets"))).scalar() == 0
    await store.requests.submit(DRAW)


async def test_callers_that_are_cancelled_in_the_middle_leave_the_queue_working(shared_url: str) -> None:
    store = await Store.open(shared_url)
    for round_ in range(30):
        tasks = [
            asyncio.create_task(work)
            for work in (store.requests.submit(DRAW), store.requests.submit(DRAW), store.requests.list())
        ]
        await asyncio.sleep(round_ / 5000)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()  # what had begun is finished first
    store = await Store.open(shared_url)
    before = len(await store.requests.list(limit=1000))
    await asyncio.wait_for(store.requests.submit(DRAW), 60)
    assert len(await store.requests.list(limit=1000)) == before + 1
    await store.close()


async def test_an_idle_lane_is_only_read(store: Store) -> None:
    begun: list[sa.Connection] = []
    engine = store._database._engine.sync_engine
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *heard: statements.append(heard[2]))
    sa.event.listen(engine, "commit", begun.append)
    assert await store.leases.claim("w", "training", resident=["warm"]) is None
    assert begun == []
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


async def add_finished(store: Store, first: int, last: int) -> None:
    """A history of completed requests, `old-<first>` to `old-<last>`."""
    finished = sa.text(
        "INSERT INTO requests (id, endpoint_id, kind, status, outcome, priority, input, key_id, origin, affinity, sync,"
        " store_io, tags, created_at, cancel_requested, step, total_steps, progress, attempts, strikes, version,"
        f" log_count, token, overtaken) WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < {last}) SELECT 'old-' || i, 'e', 'inference', 'COMPLETED', 'ok', 0, '{{}}', 'k', '', '', false,"
        " true, '{}', i, false, 0, 0, '{}', 1, 0, 3, 0, 1, 0 FROM n"
    )
    async with store._database.write() as connection:
        await connection.execute(finished)


async def work_once(store: Store) -> None:
    """Everything that happens again and again: submits, polls, claims, heartbeats, endings."""
    for _ in range(3):
        await store.requests.submit(replace(DRAW, coalesce_key=str(uuid.uuid4()), start_deadline=9e9))
    assert await store.leases.claim("w", "training") is None
    claim = await store.leases.claim("w", "inference")
    assert claim is not None
    await store.requests.position(claim.request)
    for question in (store.requests.get, store.requests.version, store.requests.logs, store.requests.attempts):
        await question(claim.request.id)
    await store.leases.heartbeat(claim, step=1, total=2)
    await store.leases.complete(claim, {}, [])
    while (claim := await store.leases.claim("w", "inference", resident=["warm"])) is not None:
        await store.leases.release_worker("w", "gone") if claim.attempt == 1 else await store.leases.complete(
            claim, {}, []
        )
    await store.leases.reap()


async def test_a_long_history_costs_sqlite_not_one_more_instruction() -> None:
    store = await Store.open("sqlite+aiosqlite://")
    spent = 0

    def count() -> int:
        nonlocal spent
        spent += 1
        return 0

    async def cost() -> int:
        before = spent
        await work_once(store)
        return spent - before

    async with store._database._read() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.set_progress_handler(count, 1)
    await add_finished(store, 1, 10)
    short = await cost()
    await add_finished(store, 11, 5000)
    long = await cost()
    await store.close()
    assert 1000 < long < short * 1.1


async def test_every_repeated_statement_finds_its_rows_by_an_index(store: Store) -> None:
    """Asked of the planner itself."""
    await add_finished(store, 1, 5000)
    async with store._database.write() as connection:
        await connection.execute(sa.text("ANALYZE"))
    asked: list[tuple[str, Any]] = []
    engine = store._database._engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", lambda *heard: asked.append((heard[2], heard[3])))
    await work_once(store)
    plain = {statement: given for statement, given in asked if statement.split()[0] in ("SELECT", "UPDATE")}
    assert len(plain) > 10
    word = "EXPLAIN QUERY PLAN" if store._database.sqlite else "EXPLAIN"
    async with store._database._read() as connection:
        for statement, given in plain.items():
            plan = " | ".join(str(row[-1]) for row in await connection.exec_driver_sql(f"{word} {statement}", given))
            assert "Seq Scan on requests" not in plan, (statement, plan)
            partial = "SCAN requests USING INDEX requests_running" in plan or "requests_waiting" in plan
            assert "SCAN requests" not in plan or partial, (statement, plan)


async def test_a_look_up_sees_what_was_written_a_moment_ago_and_holds_on_to_nothing(store: Store) -> None:
    request, _ = await store.requests.submit(NewRequest("a/b", "training", {}))
    before = await store.requests.version(request.id)
    assert before == request.version
    await store.requests.cancel(request.id)
    assert (await store.requests.version(request.id) or 0) > before
    assert await store.requests.version("nobody") is None
    if store._database._path is not None:  # a reader that held on to something would leave the log to grow
        async with store._database.write() as connection:
            await connection.execute(sa.text("UPDATE requests SET step = step"))
        [(busy, *_)] = await store._database._fetch(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        assert busy == 0
