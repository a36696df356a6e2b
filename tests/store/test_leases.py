"""One worker at a time, in the right order, ended once."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from tintype.errors import Cancelled, InternalError, LeaseLost
from tintype.store import Claim, Ending, LogLine, Outcome, Priority, Status, Store, StoredFile, Worker

pytestmark = pytest.mark.anyio


async def claim_one(store: Store, **given: Any) -> Claim:
    claim = await store.leases.claim(**{"worker_id": "w", "lane": "training", **given})
    assert claim is not None
    return claim


# --- claiming -------------------------------------------------------------------------------------------------


async def test_a_claim_begins_an_attempt(store: Store, submit: Any, clock: Any) -> None:
    request = await submit()
    clock.advance(2)
    claim = await claim_one(store)
    assert (claim.request.id, claim.attempt, claim.worker_id) == (request.id, 1, "w")
    assert (claim.request.status, claim.request.started_at) == (Status.IN_PROGRESS, clock.now)
    assert claim.request.version > request.version
    assert await store.requests.get(request.id) == claim.request
    [attempt] = await store.requests.attempts(request.id)
    assert (attempt.number, attempt.token, attempt.worker_id) == (1, claim.token, "w")
    assert (attempt.started_at, attempt.ended_at, attempt.ending) == (clock.now, None, None)
    assert await store.leases.claim("other", "training") is None


async def test_lanes_do_not_see_each_other(store: Store, submit: Any) -> None:
    await submit()
    assert await store.leases.claim("w", "inference") is None


async def test_normal_runs_before_low_and_first_come_first_served(store: Store, submit: Any) -> None:
    low = await submit(priority=Priority.LOW, affinity="warm")
    normal = [await submit() for _ in range(3)]
    order = [(await claim_one(store, resident=["warm"])).request.id for _ in range(4)]
    assert order == [*(request.id for request in normal), low.id]


async def test_simultaneous_claims_take_different_requests(store: Store, submit: Any) -> None:
    ids = [(await submit()).id for _ in range(6)]
    claims = await asyncio.gather(*(store.leases.claim(f"w{i}", "training") for i in range(6)))
    taken = [claim.request.id for claim in claims if claim]
    while (claim := await store.leases.claim("late", "training")) is not None:  # skip locked may pass a busy row by
        taken.append(claim.request.id)
    assert sorted(taken) == sorted(ids)


async def test_a_resident_request_overtakes_at_most_eight_times(store: Store, submit: Any) -> None:
    cold = await submit(affinity="cold")
    colder = await submit(affinity="colder")
    warm = [await submit(affinity="warm") for _ in range(12)]
    order = [(await claim_one(store, resident=["warm"])).request.id for _ in range(14)]
    ids = [request.id for request in warm]
    assert order == [*ids[:8], cold.id, colder.id, *ids[8:]]


async def test_a_resident_request_overtakes_for_at_most_thirty_seconds(store: Store, submit: Any, clock: Any) -> None:
    cold = await submit(affinity="cold")
    warm = [await submit(affinity="warm") for _ in range(3)]
    order = []
    for _ in range(4):
        claim = await claim_one(store, resident=["warm"])
        await store.leases.complete(claim, {}, [])
        order.append(claim.request.id)
        clock.advance(16)
    assert order == [warm[0].id, warm[1].id, cold.id, warm[2].id]


async def test_nothing_is_overtaken_by_another_cold_request(store: Store, submit: Any) -> None:
    first = await submit(affinity="cold")
    await submit(affinity="other")
    assert (await claim_one(store, resident=["warm"])).request.id == first.id


async def test_a_request_past_its_start_deadline_ends_as_such(store: Store, submit: Any, clock: Any) -> None:
    late = await submit(start_deadline=clock.now + 5)
    good = await submit(start_deadline=clock.now + 50)
    clock.advance(6)
    assert (await claim_one(store)).request.id == good.id
    ended = await store.requests.get(late.id)
    assert ended is not None
    assert (ended.status, ended.outcome, ended.ended_at) == (Status.COMPLETED, Outcome.FAILED, clock.now)
    assert ended.failure is not None
    assert (ended.failure.status, ended.failure.error_type) == (504, "request_timeout")
    assert ended.failure.headers["X-Fal-Request-Timeout-Type"] == "user"


async def test_a_start_deadline_does_not_end_what_has_begun(store: Store, submit: Any, clock: Any) -> None:
    request = await submit(start_deadline=clock.now + 5)
    claim = await claim_one(store)
    clock.advance(6)
    assert await store.leases.reap() == 0
    await store.leases.release(claim, Ending.KILLED, "machine lost")
    assert (await claim_one(store)).request.id == request.id


# --- heartbeats -----------------------------------------------------------------------------------------------


async def test_a_heartbeat_shows_progress_and_keeps_the_lease(store: Store, submit: Any, clock: Any) -> None:
    request = await submit()
    claim = await claim_one(store)
    for _ in range(3):
        clock.advance(20)
        beat = await store.leases.heartbeat(claim, step=4, total=10, metrics={"loss": 0.5})
        assert not beat.cancel
        assert await store.leases.claim("thief", "training") is None
    seen = await store.requests.get(request.id)
    assert seen is not None
    assert (seen.step, seen.total_steps, seen.progress) == (4, 10, {"loss": 0.5})
    [attempt] = await store.requests.attempts(request.id)
    assert attempt.last_step == 4


async def test_the_version_grows_with_visible_changes_only(store: Store, submit: Any) -> None:
    claim = await claim_one(store) if await submit() else None
    assert claim is not None
    request_id = claim.request.id
    versions = [await store.requests.version(request_id)]
    for told in ({"step": 1, "total": 9}, {"metrics": {"loss": 1.0}}, {"logs": [LogLine(0, 1.0, "INFO", "x")]}):
        await store.leases.heartbeat(claim, **told)
        versions.append(await store.requests.version(request_id))
    assert versions == sorted({version for version in versions if version is not None})
    await store.leases.heartbeat(claim)
    await store.leases.heartbeat(claim, step=1, total=9, metrics={"loss": 1.0}, checkpoint_step=1)
    assert await store.requests.version(request_id) == versions[-1]
    seen = await store.requests.get(request_id)
    assert seen is not None
    assert (seen.step, seen.total_steps, seen.progress) == (1, 9, {"loss": 1.0})


async def test_a_diverged_loss_does_not_stop_the_heartbeat(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await claim_one(store)
    await store.leases.heartbeat(claim, metrics={"loss": math.nan, "deep": [{"x": math.inf}], "lr": 0.1})
    seen = await store.requests.get(request.id)
    assert seen is not None
    assert seen.progress == {"loss": None, "deep": [{"x": None}], "lr": 0.1}


# --- endings --------------------------------------------------------------------------------------------------


async def test_result_files_and_last_lines_appear_together(store: Store, submit: Any, clock: Any) -> None:
    request = await submit(key_id="k")
    claim = await claim_one(store)
    file = StoredFile("f", "lora.safetensors", "application/octet-stream", 5_000_000_000, clock.now)
    await store.leases.complete(claim, {"b": 1, "a": 2}, [file], logs=[LogLine(0, clock.now, "INFO", "done")])
    done = await store.requests.get(request.id)
    assert done is not None
    assert (done.status, done.outcome, done.failure, done.ended_at) == (
        Status.COMPLETED, Outcome.OK, None, clock.now,
    )  # fmt: skip
    assert done.output is not None
    assert list(done.output.items()) == [("b", 1), ("a", 2)]
    [stored] = await store.files.of_request(request.id)
    assert (stored.id, stored.size, stored.request_id, stored.key_id) == ("f", 5_000_000_000, request.id, "k")
    assert [line.message for line in await store.requests.logs(request.id)] == ["done"]
    [attempt] = await store.requests.attempts(request.id)
    assert (attempt.ending, attempt.ended_at) == (Ending.OK, clock.now)


async def test_a_failure_is_kept_as_it_is_answered(store: Store, submit: Any) -> None:
    request = await submit()
    failure = InternalError("broken", remedy="Mend it.").failure()
    await store.leases.fail(await claim_one(store), failure, logs=[LogLine(0, 1.0, "ERROR", "broken")])
    ended = await store.requests.get(request.id)
    assert ended is not None
    assert (ended.outcome, ended.failure) == (Outcome.FAILED, failure)
    assert [line.message for line in await store.requests.logs(request.id)] == ["broken"]


async def test_a_cancelled_job_ends_as_cancelled(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await claim_one(store)
    await store.requests.cancel(request.id)
    await store.leases.fail(claim, Cancelled().failure())
    ended = await store.requests.get(request.id)
    assert ended is not None
    assert (ended.status, ended.outcome) == (Status.COMPLETED, Outcome.CANCELLED)
    assert [attempt.ending for attempt in await store.requests.attempts(request.id)] == [Ending.CANCELLED]


# --- fencing --------------------------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_lease_cannot_overwrite_its_successor(
    store: Store, submit: Any, clock: Any
) -> None:
    request = await submit()
    stale = await claim_one(store, worker_id="slow")
    clock.advance(31)
    current = await claim_one(store, worker_id="quick")
    assert (current.request.id, current.attempt) == (request.id, 2)
    assert current.token > stale.token
    before = await store.requests.get(request.id)
    line = [LogLine(0, 1.0, "INFO", "from the grave")]
    for write in (
        store.leases.heartbeat(stale, step=9, total=9, logs=line),
        store.leases.complete(stale, {"stale": True}, [StoredFile("f", "n", "t", 1, 0.0)], logs=line),
        store.leases.fail(stale, InternalError("stale").failure(), logs=line),
        store.leases.release(stale, Ending.DIED, "stale"),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await store.requests.get(request.id) == before
    assert await store.requests.logs(request.id) == []
    assert await store.files.of_request(request.id) == []
    await store.leases.complete(current, {"good": True}, [])
    endings = [(attempt.worker_id, attempt.ending) for attempt in await store.requests.attempts(request.id)]
    assert endings == [("slow", Ending.LEASE_EXPIRED), ("quick", Ending.OK)]


async def test_an_ended_request_takes_no_second_ending(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await claim_one(store)
    await store.leases.complete(claim, {"n": 1}, [])
    with pytest.raises(LeaseLost):
        await store.leases.complete(claim, {"n": 2}, [])
    with pytest.raises(LeaseLost):
        await store.leases.release(claim, Ending.DIED, "after the end")
    done = await store.requests.get(request.id)
    assert done is not None
    assert done.output == {"n": 1}


async def test_a_late_heartbeat_is_good_as_long_as_nobody_took_the_lease(store: Store, submit: Any, clock: Any) -> None:
    await submit()
    claim = await claim_one(store)
    clock.advance(300)
    await store.leases.heartbeat(claim)
    assert await store.leases.claim("thief", "training") is None


# --- deaths ---------------------------------------------------------------------------------------------------


async def test_a_released_request_comes_back_at_its_old_place(store: Store, submit: Any) -> None:
    first = await submit()
    await submit()
    released = await store.leases.release(await claim_one(store), Ending.DRAINED, "drained")
    assert (released.status, released.started_at is not None) == (Status.IN_QUEUE, True)
    again = await claim_one(store)
    assert (again.request.id, again.attempt) == (first.id, 2)
    [attempt, _] = await store.requests.attempts(first.id)
    assert (attempt.ending, attempt.cause) == (Ending.DRAINED, "drained")


async def test_three_deaths_in_a_row_without_a_checkpoint_end_the_request(store: Store, submit: Any) -> None:
    await submit()
    for strikes in (1, 2):
        released = await store.leases.release(await claim_one(store), Ending.DIED, "signal 11")
        assert (released.status, released.strikes) == (Status.IN_QUEUE, strikes)
    ended = await store.leases.release(await claim_one(store), Ending.DIED, "signal 9\0")
    assert (ended.status, ended.outcome) == (Status.COMPLETED, Outcome.FAILED)
    assert ended.failure is not None
    assert "signal 9" in ended.failure.body["detail"]
    assert await store.leases.claim("w", "training") is None


async def test_memory_that_runs_out_at_load_counts_as_a_death_and_says_so_at_the_end(store: Store, submit: Any) -> None:
    await submit()
    await store.leases.release(await claim_one(store), Ending.DIED, "signal 11")
    await store.leases.release(await claim_one(store), Ending.OUT_OF_MEMORY, "no room for the encoders")
    ended = await store.leases.release(await claim_one(store), Ending.OUT_OF_MEMORY, "no room for the encoders")
    assert ended.failure is not None
    assert ended.failure.body["message"].startswith(
        "A device's memory ran out in 3 attempts in a row. Last cause: no room for the encoders"
    )


async def test_waiting_for_memory_never_counts_and_the_time_to_start_still_runs(
    store: Store, submit: Any, clock: Any
) -> None:
    holder, request = await submit(), await submit(start_deadline=clock.now + 60)
    first = await claim_one(store)
    for _ in range(5):
        claim = await claim_one(store)
        released = await store.leases.release(claim, Ending.WAITED, "memory is taken", waits_for=holder.id)
        assert (released.status, released.strikes, released.started_at) == (Status.IN_QUEUE, 0, None)
        assert released.progress == {"waits_for": holder.id}
    clock.advance(20)
    await store.leases.heartbeat(first, step=3, total=9, metrics={"loss": 0.1, "eta": 5.0})
    paused = await store.leases.release(first, Ending.WAITED, "made room")
    assert (paused.started_at is not None, paused.progress) == (True, {"loss": 0.1})
    clock.advance(61)
    await store.leases.reap()
    late = await store.requests.get(request.id)
    assert late is not None
    assert late.failure is not None
    assert late.failure.status == 504


async def test_kills_and_lost_machines_never_count(store: Store, submit: Any, clock: Any) -> None:
    await submit()
    await store.leases.release(await claim_one(store), Ending.DIED, "once")
    for _ in range(4):
        await store.leases.release(await claim_one(store), Ending.DRAINED, "drained")
        await claim_one(store)
        clock.advance(31)
        assert await store.leases.reap() == 1
    released = await store.leases.release(await claim_one(store), Ending.DIED, "twice")
    assert (released.status, released.strikes) == (Status.IN_QUEUE, 2)


@pytest.mark.parametrize("step", [0, 100])
async def test_a_new_checkpoint_forgives_earlier_deaths_and_its_own(store: Store, submit: Any, step: int) -> None:
    await submit()
    for _ in range(2):
        await store.leases.release(await claim_one(store), Ending.DIED, "early")
    claim = await claim_one(store)
    await store.leases.heartbeat(claim, step=100, total=500, checkpoint_step=step)
    assert (await store.leases.release(claim, Ending.DIED, "late")).strikes == 0
    claim = await claim_one(store)
    await store.leases.heartbeat(claim, step=100, total=500, checkpoint_step=step)  # the same one again is no progress
    assert (await store.leases.release(claim, Ending.DIED, "no further")).strikes == 1
    attempts = await store.requests.attempts(claim.request.id)
    assert [attempt.checkpoint_step for attempt in attempts] == [None, None, step, None]


@pytest.mark.parametrize("ending", [Ending.DIED, Ending.KILLED])
async def test_a_death_after_cancel_was_asked_for_ends_as_cancelled(store: Store, submit: Any, ending: Ending) -> None:
    request = await submit()
    claim = await claim_one(store)
    await store.requests.cancel(request.id)
    ended = await store.leases.release(claim, ending, "did not stop in time")
    assert (ended.status, ended.outcome) == (Status.COMPLETED, Outcome.CANCELLED)


async def test_an_expired_lease_after_cancel_was_asked_for_ends_as_cancelled(
    store: Store, submit: Any, clock: Any
) -> None:
    request = await submit()
    await claim_one(store)
    await store.requests.cancel(request.id)
    clock.advance(31)
    assert await store.leases.reap() == 1
    ended = await store.requests.get(request.id)
    assert ended is not None
    assert ended.outcome is Outcome.CANCELLED


async def test_all_leases_of_a_dead_worker_come_back_at_once(store: Store, submit: Any) -> None:
    requests = [await submit() for _ in range(3)]
    for worker_id in ("dead", "dead", "alive"):
        await claim_one(store, worker_id=worker_id)
    assert await store.leases.release_worker("dead", "its process is gone") == 2
    assert await store.leases.release_worker("dead", "its process is gone") == 0
    states = [(await store.requests.get(request.id)) for request in requests]
    assert [state.status for state in states if state] == [Status.IN_QUEUE, Status.IN_QUEUE, Status.IN_PROGRESS]
    [attempt] = await store.requests.attempts(requests[0].id)
    assert (attempt.ending, attempt.cause) == (Ending.KILLED, "its process is gone")


# --- what the sender said about retries -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retries", "ending", "tries"),
    [
        ({"server_error": 0}, Ending.DIED, 1),
        ({"server_error": 4}, Ending.DIED, 5),
        ({"connection_error": 0}, Ending.DIED, 3),
        ({"connection_error": 0}, Ending.LEASE_EXPIRED, 1),
        ({"connection_error": 1}, Ending.KILLED, 2),
    ],
)
async def test_a_request_is_tried_as_often_as_its_sender_allowed(
    store: Store, submit: Any, retries: dict[str, int], ending: Ending, tries: int
) -> None:
    request = await submit(retries=retries)
    for number in range(1, tries + 1):
        claim = await claim_one(store)
        assert claim.attempt == number
        released = await store.leases.release(claim, ending, "gone")
    assert (released.status, released.outcome) == (Status.COMPLETED, Outcome.FAILED)
    assert released.failure is not None
    assert "gone" in released.failure.body["detail"]
    assert len(await store.requests.attempts(request.id)) == tries


async def test_a_drain_is_no_retry(store: Store, submit: Any) -> None:
    await submit(retries={"server_error": 0, "connection_error": 0, "timeout": 0})
    released = await store.leases.release(await claim_one(store), Ending.DRAINED, "drained")
    assert released.status is Status.IN_QUEUE


# --- which lane -----------------------------------------------------------------------------------------------


async def test_a_new_request_is_left_to_the_idle_lane_that_holds_its_affinity(
    store: Store, submit: Any, clock: Any
) -> None:
    holder = Worker("holder", "training", "cuda:1", "here", 1, "boot", clock.now, "idle", ("flux lora",))
    await store.workers.announce(holder)
    warm = await submit(affinity="flux lora")
    other = await submit(affinity="flux other")
    assert (await claim_one(store)).request.id == other.id
    assert await store.leases.claim("w", "training") is None
    assert (await claim_one(store, worker_id="holder", resident=("flux lora",))).request.id == warm.id


async def test_the_holder_is_not_waited_for_when_it_is_slow_busy_or_gone(store: Store, submit: Any, clock: Any) -> None:
    holder = Worker("holder", "training", "cuda:1", "here", 1, "boot", clock.now, "idle", ("flux lora",))
    await store.workers.announce(holder)
    await submit(affinity="flux lora")
    clock.advance(2)
    await claim_one(store)
    await store.workers.announce(replace(holder, state="busy"))
    await submit(affinity="flux lora")
    await claim_one(store)
    await store.workers.announce(holder)
    clock.advance(31)
    await submit(affinity="flux lora")
    await claim_one(store)
