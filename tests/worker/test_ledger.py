"""Whose a device's memory is: a request that does not get it waits in the queue, and both lanes have their turns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from tests.support.processes import SupervisorProcess, supervision

from tintype.catalog import Kind
from tintype.settings import MIB, Settings
from tintype.store import Outcome, Status
from tintype.store.records import Ending
from tintype.worker.ledger import PATIENCE, QUIET_SECONDS, MemoryLedger, Wait

pytestmark = pytest.mark.anyio

BUDGET, HALF, MOST = 100 * MIB, 50 * MIB, 60 * MIB


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class IdleOrBusy:
    """A lane as the ledger sees it, which does nothing by itself."""

    def __init__(self, kind: Kind, ledger: MemoryLedger) -> None:
        self.kind = kind
        self.wait: Wait | None = None
        self.held, self.is_busy, self.has_memory, self.idle_since, self.running = 0, False, True, 0.0, ("", "")
        self.unloaded = self.paused = 0
        ledger.admit(self)

    def grant(self, total: int) -> None:
        self.held = max(self.held, total)

    async def unload(self) -> None:
        if not self.is_busy:
            self.held, self.unloaded = 0, self.unloaded + 1

    def pause(self) -> None:
        self.paused += 1


class Lanes:
    def __init__(self, budget: int | None = BUDGET, **options: object) -> None:
        self.clock = Clock()
        self.ledger = MemoryLedger("cuda:0", budget, clock=self.clock, **options)  # type: ignore[arg-type]
        self.training, self.inference = (IdleOrBusy(kind, self.ledger) for kind in ("training", "inference"))

    def __iter__(self) -> Iterator[IdleOrBusy]:
        return iter((self.training, self.inference))


async def test_what_fits_is_granted_and_what_an_idle_lane_holds_goes_for_what_does_not() -> None:
    lanes = Lanes()
    lanes.inference.is_busy = True
    assert (await lanes.ledger.ask(lanes.inference, MOST, MOST, "generating")).granted
    lanes.training.is_busy = True
    small = await lanes.ledger.ask(lanes.training, BUDGET - MOST, 1, "training")
    assert (small.granted, small.available, lanes.training.held) == (True, BUDGET - MOST, BUDGET - MOST)
    lanes.inference.is_busy = False
    large = await lanes.ledger.ask(lanes.training, MOST, HALF, "training")
    assert (large.granted, large.available, lanes.inference.unloaded) == (True, BUDGET, 1)
    assert (lanes.training.held, lanes.inference.held) == (MOST, 0)


async def test_a_busy_lane_keeps_what_it_has_and_a_part_of_the_wish_is_granted_if_it_will_do() -> None:
    lanes = Lanes()
    lanes.training.is_busy = lanes.inference.is_busy = True
    lanes.training.running = ("t", "a training (step 3 of 9)")
    await lanes.ledger.ask(lanes.training, MOST, MOST, "training")
    refused = await lanes.ledger.ask(lanes.inference, HALF, HALF, "generating with FLUX")
    assert not refused.granted
    assert refused.behind == "t"
    assert refused.reason == (
        "Waits for memory of cuda:0: generating with FLUX takes 50.0 MiB, and 40.0 MiB are left beside a training "
        "(step 3 of 9)."
    )
    assert lanes.inference.held == 0
    part = await lanes.ledger.ask(lanes.inference, HALF, 1, "generating with FLUX")
    assert (part.granted, part.available, lanes.inference.held) == (True, BUDGET - MOST, BUDGET - MOST)


async def test_alone_on_its_device_a_lane_gets_what_it_asks_for_and_without_a_budget_nothing_is_counted() -> None:
    lanes = Lanes()
    lanes.training.is_busy = True
    assert (await lanes.ledger.ask(lanes.training, 2 * BUDGET, 2 * BUDGET, "training")).available == BUDGET
    uncounted = Lanes(budget=None)
    uncounted.training.held = 10**12
    answer = await uncounted.ledger.ask(uncounted.inference, MOST, MOST, "generating")
    assert (answer.granted, answer.available) == (True, None)


async def test_a_lane_that_waits_has_its_turn_before_the_other_one_begins_again() -> None:
    """Drawing at once when a training has ended, a training after drawing has gone on for its patience."""
    lanes = Lanes()
    (training, inference), now = lanes, lanes.clock.now
    inference.wait, training.is_busy, training.held = Wait(MOST, now), True, MOST
    assert not lanes.ledger.may_begin(inference)
    training.is_busy = False
    assert not lanes.ledger.may_begin(training)
    assert lanes.ledger.may_begin(inference)

    inference.wait, training.wait = None, Wait(MOST, now)
    inference.is_busy, inference.held, training.held = True, MOST, 0
    assert not lanes.ledger.may_begin(training)
    inference.is_busy, inference.idle_since = False, now
    assert not lanes.ledger.may_begin(training), "more may be drawn at once"
    assert lanes.ledger.may_begin(inference)
    lanes.clock.now += QUIET_SECONDS
    assert lanes.ledger.may_begin(training)
    lanes.clock.now += PATIENCE["training"]
    inference.idle_since = lanes.clock.now
    assert lanes.ledger.may_begin(training)
    assert not lanes.ledger.may_begin(inference)


async def test_a_lane_that_waits_does_not_begin_while_nobody_knows_what_the_other_one_needs() -> None:
    """A training that was paused for drawing would take the memory before what is drawn has asked for it."""
    lanes = Lanes()
    lanes.training.wait = Wait(MOST, lanes.clock.now)
    lanes.inference.is_busy, lanes.inference.has_memory = True, False
    assert not lanes.ledger.may_begin(lanes.training)
    lanes.inference.has_memory, lanes.inference.held = True, BUDGET - MOST
    assert lanes.ledger.may_begin(lanes.training)


async def test_a_training_is_paused_only_where_that_is_set_and_only_for_drawing() -> None:
    for mode, times in (("wait", 0), ("pause", 1)):
        lanes = Lanes(draw_while_training=mode)
        for lane, other in ((lanes.inference, lanes.training), (lanes.training, lanes.inference)):
            lane.wait, other.is_busy, other.held = Wait(MOST, lanes.clock.now), True, MOST
            assert not lanes.ledger.may_begin(lane)
            lane.wait, other.is_busy, other.held = None, False, 0
        assert (lanes.training.paused, lanes.inference.paused) == (times, 0)


async def test_in_any_order_of_work_no_more_is_granted_than_there_is_and_nobody_waits_for_ever() -> None:
    """Both lanes begin, ask for more and end at random; whoever is refused gives its request back and waits."""
    for seed in range(100):
        chance, lanes = random.Random(seed), Lanes()
        began: dict[Kind, list[float]] = {"training": [], "inference": []}
        for _ in range(200):
            lanes.clock.now += chance.choice([0.1, 1.0, 10.0])
            for lane in chance.sample(list(lanes), 2):
                if not lane.is_busy:
                    if lanes.ledger.may_begin(lane):
                        lane.is_busy = True
                        began[lane.kind].append(lanes.clock.now)
                elif chance.random() < 0.5:
                    most = chance.randrange(BUDGET)
                    answer = await lanes.ledger.ask(lane, most, chance.randrange(most + 1), "it")
                    if not answer.granted:
                        since = lanes.clock.now if lane.wait is None else lane.wait.since
                        lane.wait, lane.is_busy, lane.held = Wait(most, since), False, chance.randrange(lane.held + 1)
                elif chance.random() < 0.5:
                    lane.wait, lane.is_busy, lane.idle_since = None, False, lanes.clock.now
                    lane.held = chance.randrange(lane.held + 1)
            assert sum(lane.held for lane in lanes) <= BUDGET
        for times in began.values():
            assert max(after - before for before, after in pairwise(times)) < 400


async def test_a_request_waits_in_the_queue_while_the_other_lane_has_the_memory(settings: Settings) -> None:
    async with supervision(settings.model_copy(update={"device_memory_bytes": BUDGET})) as running:
        running.start()
        training = await running.submit(steps=100_000, memory=MOST)
        await running.at_step(training, 1)
        fits = await running.finished(await running.submit("inference", memory=BUDGET - MOST))
        assert (fits.outcome, fits.attempts) == (Outcome.OK, 1)
        waiting = await running.submit("inference", memory=HALF)
        queued = await running.until(waiting, lambda request: request.attempts > 0 and request.started_at is None)
        assert queued.status is Status.IN_QUEUE
        assert queued.progress["waits_for"] == training
        assert any("counting takes 50.0 MiB, and 40.0 MiB are left" in line for line in await running.messages(waiting))
        await running.store.requests.cancel(training)
        assert (await running.finished(waiting)).outcome is Outcome.OK
        endings = [attempt.ending for attempt in await running.store.requests.attempts(waiting)]
        assert endings == [Ending.WAITED, Ending.OK], "it is tried again when it can be, not before"
        hopeless = await running.finished(await running.submit("inference", memory=2 * BUDGET, loads=1))
        assert (hopeless.outcome, hopeless.attempts) == (Outcome.FAILED, 1), "with all of the device it lacked memory"


async def test_a_paused_training_goes_on_from_where_it_was(settings: Settings) -> None:
    pausing = settings.model_copy(update={"device_memory_bytes": BUDGET, "draw_while_training": "pause"})
    async with supervision(pausing) as running:
        running.start()
        training = await running.submit(steps=100_000, memory=MOST)
        await running.at_step(training, 1)
        drawn = await running.finished(await running.submit("inference", memory=HALF))
        assert drawn.outcome is Outcome.OK
        queued = await running.get(training)
        await running.until(training, lambda request: request.attempts == 2 and request.step > queued.step)
        assert any(
            "Attempt 2 goes on from its checkpoint at step " in line for line in await running.messages(training)
        )
        await running.store.requests.cancel(training)
        await running.finished(training)
        endings = [attempt.ending for attempt in await running.store.requests.attempts(training)]
        assert endings == [Ending.WAITED, Ending.CANCELLED]


async def test_memory_that_runs_out_at_load_is_tried_again_and_not_for_ever(
    supervised: SupervisorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised.start()
    again, never = await supervised.submit(loads=1), await supervised.submit("inference", loads=9)
    done, failed = await asyncio.gather(supervised.finished(again), supervised.finished(never))
    endings = [attempt.ending for attempt in await supervised.store.requests.attempts(again)]
    assert (done.outcome, endings) == (Outcome.OK, [Ending.OUT_OF_MEMORY, Ending.OK])
    assert failed.attempts == 3
    assert failed.failure is not None
    assert "ran out in 3 attempts in a row. Last cause: Memory of the device ran out" in failed.failure.body["message"]
