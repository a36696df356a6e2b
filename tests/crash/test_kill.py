"""SIGKILL to any process, or to all: what was answered with an id completes under it, and nothing is left behind."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import ServeProcess

from tintype.store import Outcome, Status

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds orphans by their environment, which needs /proc"),
]

READY_AGAIN = 30.0  # seconds, promised
NO_ORPHAN = 5.0  # seconds, promised
# Long enough to be killed in the middle.
TRAINING: dict[str, Any] = {"steps": 60, "seconds": 0.05, "checkpoint_every": 5}


async def test_killing_child_supervisor_and_web_in_turn_costs_no_request(serving: ServeProcess) -> None:
    serving.start()
    await serving.ready()
    request_id = await serving.submit(**TRAINING | {"steps": 120}, publish=True)

    step = 10
    for kind in ("child", "supervisor", "web"):
        await serving.at_step(request_id, step)
        (await serving.member(kind, "training" if kind == "child" else "")).kill()
        await serving.ready(READY_AGAIN)
        step = (await serving.get(request_id)).step + 10

    request = await serving.finished(request_id)
    assert request.outcome is Outcome.OK
    assert request.output is not None
    assert request.attempts == 3  # the web process has no part in the work
    assert request.output["resumed_at"] >= 10
    assert len(await serving.store.files.of_request(request_id)) == 1


async def test_a_killed_serve_leaves_no_orphan_and_its_successor_goes_on(serving: ServeProcess) -> None:
    serve = serving.start()
    await serving.ready()
    request_id = await serving.submit(**TRAINING)
    waiting = await serving.submit("training", steps=1)
    await serving.at_step(request_id, 12)
    assert {kind: len(serving.members(kind)) for kind in ("web", "supervisor")} == {"web": 1, "supervisor": 1}

    serve.kill()
    serve.wait()
    await serving.eventually(lambda: not serving.tree(), "no orphan", NO_ORPHAN)
    assert (await serving.get(request_id)).status is not Status.COMPLETED

    serving.start()
    request = await serving.finished(request_id)
    assert request.output is not None
    assert request.output["resumed_at"] >= 10
    assert (await serving.finished(waiting)).outcome is Outcome.OK


async def test_everything_killed_at_once_is_as_if_the_machine_had_lost_power(serving: ServeProcess) -> None:
    serving.start()
    await serving.ready()
    request_id = await serving.submit(**TRAINING)
    await serving.at_step(request_id, 12)

    serving.kill_all()
    serving.start()

    await serving.ready(READY_AGAIN)
    request = await serving.finished(request_id)
    assert request.outcome is Outcome.OK
    assert request.output is not None
    assert request.output["resumed_at"] >= 10
    assert request.strikes == 0


async def test_sigterm_drains_and_the_next_start_goes_on(serving: ServeProcess) -> None:
    serve = serving.start()
    await serving.ready()
    request_id = await serving.submit(steps=60, seconds=0.05)  # no checkpoint but the drain's
    await serving.at_step(request_id, 8)

    serve.terminate()

    assert await serving.ended() == 0
    assert serving.tree() == []
    assert (await serving.get(request_id)).status is Status.IN_QUEUE
    serving.start()
    request = await serving.finished(request_id)
    assert request.output is not None
    assert request.output["resumed_at"] >= 8


async def test_a_second_ctrl_c_forces_the_end(serving: ServeProcess) -> None:
    serve = serving.start()
    await serving.ready()
    request_id = await serving.submit(steps=100_000, deaf=True)  # would use up all the time a drain allows
    await serving.at_step(request_id, 1)

    serve.send_signal(signal.SIGINT)
    await serving.eventually(lambda: "again to force" in serving.log.read_text(), "draining")
    serve.send_signal(signal.SIGINT)

    assert await serving.ended() == 1
    await serving.eventually(lambda: not serving.tree(), "no orphan", NO_ORPHAN)
    assert (await serving.get(request_id)).status is not Status.COMPLETED


async def test_a_second_serve_on_the_same_data_says_so_and_leaves_the_first_alone(serving: ServeProcess) -> None:
    first = serving.start()
    await serving.ready()

    second = serving.start(port=0)

    assert await serving.ended() == 1
    assert "Another tintype already works on cpu" in serving.log.read_text()
    assert second.pid != first.pid
    assert first.poll() is None
    await serving.ready()


async def test_neither_serve_nor_web_nor_supervisor_maps_torch(serving: ServeProcess) -> None:
    serve = serving.start()
    await serving.ready()
    light = [serve.pid, *(process.pid for kind in ("web", "supervisor") for process in serving.members(kind))]
    assert len(light) == 3
    assert [pid for pid in light if "torch" in mapped(pid)] == []


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()
