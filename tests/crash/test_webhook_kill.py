"""A webhook that was not taken in yet survives the end of every process."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.processes import ServeProcess
from tests.support.webhook_receiver import receiving

from tintype.store import NewRequest


@pytest.mark.anyio
async def test_a_webhook_outlives_a_kill_of_everything(serving: ServeProcess) -> None:
    with receiving() as receiver:
        receiver.answers = [503] * 1000
        serving.start(webhook_retry_seconds=0.5)
        await serving.ready()
        new = NewRequest("test/training", "training", {"steps": 1}, webhook_url=receiver.url)
        request, _ = await serving.store.requests.submit(new)
        [refused, *_] = await asyncio.to_thread(receiver.wait, 1)
        await asyncio.to_thread(serving.kill_all)
        receiver.answers = []
        before = len(receiver.hooks)
        serving.start()
        hooks = await asyncio.to_thread(receiver.wait, before + 1)
    assert hooks[-1].json["request_id"] == request.id
    assert hooks[-1].json["status"] == "OK"
    assert hooks[-1].body == refused.body
