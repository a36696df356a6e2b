"""An attempt outlives a database that is busy or away, and says nothing it may not say."""

from __future__ import annotations

import asyncio
import sqlite3

import psycopg
import pytest
from tests.support.processes import SupervisorProcess, supervision

from tintype.settings import Settings
from tintype.store import Outcome

pytestmark = pytest.mark.anyio


async def test_a_database_that_hangs_up_costs_nothing(postgres: str, settings: Settings) -> None:
    async with supervision(settings.model_copy(update={"database": postgres})) as supervised:
        supervised.start()
        request_id = await supervised.submit(steps=100, seconds=0.03, checkpoint_every=20, publish=True)
        await supervised.at_step(request_id, 1)

        with psycopg.connect(postgres, autocommit=True) as connection:
            for _ in range(4):
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                connection.execute(f"{others} AND datname = current_database()")
                await asyncio.sleep(0.5)

        request = await supervised.finished(request_id)
        assert request.outcome is Outcome.OK
        assert request.attempts == 1
        assert request.step == 100
        assert len(await supervised.store.files.of_request(request_id)) == 1


async def test_a_database_that_is_locked_for_a_while_costs_nothing(supervised: SupervisorProcess) -> None:
    supervised.start()
    request_id = await supervised.submit(steps=30, seconds=0.02, checkpoint_every=20, publish=True)
    await supervised.at_step(request_id, 1)

    blocker = sqlite3.connect(supervised.settings.data_dir / "tintype.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    await asyncio.sleep(2)  # the job ends meanwhile, and nobody can be told
    blocker.execute("ROLLBACK")
    blocker.close()

    request = await supervised.finished(request_id)
    assert request.outcome is Outcome.OK
    assert request.attempts == 1
    assert request.step == 30


async def test_log_lines_reach_the_person_while_the_job_runs(supervised: SupervisorProcess) -> None:
    supervised.start()
    request_id = await supervised.submit(steps=100_000)
    await supervised.at_step(request_id, 1)
    assert any("counting to 100000" in line for line in await supervised.messages(request_id))
    await supervised.store.requests.cancel(request_id)
    await supervised.finished(request_id)
