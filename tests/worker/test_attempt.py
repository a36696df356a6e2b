"""An attempt outlives a database that is busy or away, and says nothing it may not say."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tintype.queue import Outcome

if TYPE_CHECKING:
    from conftest import Supervised

pytestmark = pytest.mark.anyio


async def test_a_database_that_is_away_for_a_while_costs_nothing(supervised: Supervised) -> None:
    supervised.start()
    request_id = await supervised.submit(steps=60, seconds=0.02, checkpoint_every=20, publish=True)
    await supervised.at_step(request_id, 1)

    blocker = sqlite3.connect(supervised.settings.data_dir / "tintype.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    await asyncio.sleep(4)  # the job ends meanwhile, and nobody can be told
    blocker.execute("ROLLBACK")
    blocker.close()

    request = await supervised.finished(request_id)
    assert request.outcome is Outcome.OK
    assert request.attempts == 1
    assert request.step == 60
    assert len(await supervised.queue.files_of(request_id)) == 1


async def test_log_lines_reach_the_person_while_the_job_runs(supervised: Supervised) -> None:
    supervised.start()
    request_id = await supervised.submit(steps=100_000, stpes=1)
    await supervised.at_step(request_id, 1)
    assert any("stpes" in line for line in await supervised.messages(request_id))
    await supervised.queue.cancel(request_id)
    await supervised.finished(request_id)
