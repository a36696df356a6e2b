"""A lane starts its child early, lets it go when idle, and starts it again for work."""

from __future__ import annotations

import asyncio

import psutil
import pytest
from tests.support.processes import SupervisorProcess

from tintype.store import NewRequest, Outcome

pytestmark = pytest.mark.anyio


async def test_children_start_before_there_is_work_and_leave_when_there_is_none(supervised: SupervisorProcess) -> None:
    supervised.settings = supervised.settings.model_copy(update={"idle_unload_seconds": 1.5})
    process = psutil.Process(supervised.start().pid)

    seen: set[int] = set()

    async with asyncio.timeout(2 * supervised.patience):
        while len(seen) < 2 or process.children():  # on a busy machine one may leave before the other comes
            seen |= {child.pid for child in process.children()}
            await asyncio.sleep(0.02)
    assert (await supervised.finished(await supervised.submit("inference"))).outcome is Outcome.OK


async def test_what_the_child_holds_is_served_before_what_it_would_have_to_load(supervised: SupervisorProcess) -> None:
    wanted = ["flux a", "ideogram4 b", "flux a", "flux"]
    requests = [NewRequest("test/inference", "inference", {}, origin="http://here", affinity=name) for name in wanted]
    ids = [(await supervised.store.requests.submit(request))[0].id for request in requests]
    supervised.start()
    ended = [await supervised.finished(request_id) for request_id in ids]
    started = sorted(ended, key=lambda request: request.started_at or 0)
    assert [request.affinity for request in started] == ["flux a", "flux a", "flux", "ideogram4 b"]


async def test_a_child_that_dies_idle_is_started_again(supervised: SupervisorProcess) -> None:
    supervised.start()
    first = await supervised.finished(await supervised.submit())
    assert first.output is not None
    psutil.Process(first.output["pid"]).kill()

    second = await supervised.finished(await supervised.submit())

    assert second.outcome is Outcome.OK
    assert second.output is not None
    assert second.output["pid"] != first.output["pid"]
