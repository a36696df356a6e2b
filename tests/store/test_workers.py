"""Which lanes are alive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tintype.store import Store, Worker

pytestmark = pytest.mark.anyio

WORKER = Worker("w1", "training", "cpu", "host", 123, "boot", 0.0, "idle", ("flux", "lora"))


async def test_a_lane_is_known_from_its_announcement_until_it_retires(store: Store, clock: Any) -> None:
    await store.workers.announce(WORKER)
    assert await store.workers.list() == [replace(WORKER, seen_at=clock.now)]
    clock.advance(20)
    await store.workers.announce(replace(WORKER, id="w2", lane="inference"))
    assert [worker.id for worker in await store.workers.list(seen_within=10)] == ["w2"]
    await store.workers.announce(replace(WORKER, state="busy", resident=()))
    assert [(worker.id, worker.state, worker.resident) for worker in await store.workers.list(seen_within=10)] == [
        ("w1", "busy", ()),
        ("w2", "idle", ("flux", "lora")),
    ]
    await store.workers.retire("w1")
    await store.workers.retire("w1")
    assert [worker.id for worker in await store.workers.list()] == ["w2"]
