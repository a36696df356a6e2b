"""What the web half relies on."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from tintype.errors import BadRequest, IdempotencyKeyReused, InternalError, QueueFull
from tintype.store import Ending, NewRequest, Outcome, Priority, Status, Store

pytestmark = pytest.mark.anyio

TRAIN = NewRequest("fal-ai/trainer", "training", {"z": 1, "a": [1.5, None], "text": "ä\u0000\ud800"})


async def test_a_request_is_kept_as_it_was_sent(store: Store, clock: Any) -> None:
    new = replace(TRAIN, key_id="k", origin="http://here", priority=Priority.LOW, affinity="flux", sync=True)
    request, is_new = await store.requests.submit(replace(new, start_deadline=clock.now + 5, tags={"team": "a"}))
    assert is_new
    assert str(uuid.UUID(request.id, version=4)) == request.id
    assert (request.status, request.outcome, request.priority) == (Status.IN_QUEUE, None, Priority.LOW)
    assert (request.key_id, request.origin, request.affinity, request.sync) == ("k", "http://here", "flux", True)
    assert (request.created_at, request.start_deadline) == (clock.now, clock.now + 5)
    assert request.input == TRAIN.input
    assert list(request.input) == list(TRAIN.input)
    assert await store.requests.get(request.id) == request
    assert await store.requests.version(request.id) == request.version


@pytest.mark.parametrize("request_id", ["", "nothing", "6f0c2a52-34a0-4aec-b6cd-9a234f56cc9c", "a\0b", "\ud800"])
async def test_an_unknown_id_is_none_whatever_it_holds(store: Store, request_id: str) -> None:
    assert await store.requests.get(request_id) is None
    assert await store.requests.version(request_id) is None
    assert await store.requests.cancel(request_id) is None
    assert await store.requests.retry(request_id) is None
    assert await store.requests.logs(request_id) == []


async def test_an_idempotency_key_gives_the_first_request_for_ever_but_only_to_its_api_key(
    store: Store, clock: Any
) -> None:
    first, _ = await store.requests.submit(replace(TRAIN, key_id="k", idempotency_key="i"))
    clock.advance(1e6)
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.complete(claim, {}, [])
    again, is_new = await store.requests.submit(replace(TRAIN, key_id="k", idempotency_key="i"))
    assert (again.id, is_new, again.status) == (first.id, False, Status.COMPLETED)
    other, is_new = await store.requests.submit(replace(TRAIN, key_id="other", idempotency_key="i"))
    assert is_new
    assert other.id != first.id


async def test_an_idempotency_key_is_refused_for_another_request(store: Store) -> None:
    new = NewRequest("a/b", "inference", {}, key_id="ada", idempotency_key="k", digest="one")
    request, _ = await store.requests.submit(new)
    assert await store.requests.submit(new) == (request, False)
    with pytest.raises(IdempotencyKeyReused, match=request.id):
        await store.requests.submit(replace(new, digest="another"))
    assert (await store.requests.submit(replace(new, digest="another", key_id="bob")))[1]


async def test_simultaneous_submits_of_one_idempotency_key_make_one_request(store: Store) -> None:
    new = replace(TRAIN, key_id="k", idempotency_key="i")
    answers = await asyncio.gather(*(store.requests.submit(new) for _ in range(8)))
    assert len({request.id for request, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1


async def test_an_identical_training_coalesces_within_ten_seconds(store: Store, clock: Any) -> None:
    first, _ = await store.requests.submit(replace(TRAIN, coalesce_key="c"))
    clock.advance(9)
    assert await store.requests.submit(replace(TRAIN, coalesce_key="c")) == (first, False)
    clock.advance(2)
    later, is_new = await store.requests.submit(replace(TRAIN, coalesce_key="c"))
    assert is_new
    assert later.id != first.id


async def test_simultaneous_identical_trainings_make_one_request(store: Store) -> None:
    answers = await asyncio.gather(*(store.requests.submit(replace(TRAIN, coalesce_key="c")) for _ in range(8)))
    assert len({request.id for request, _ in answers}) == 1


async def test_a_finished_or_cancelled_training_is_not_coalesced_with(store: Store) -> None:
    await store.requests.submit(replace(TRAIN, coalesce_key="c"))
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.complete(claim, {}, [])
    second, is_new = await store.requests.submit(replace(TRAIN, coalesce_key="c"))
    assert is_new
    await store.leases.claim("w", "training")
    await store.requests.cancel(second.id)  # still running, but it will not give a result
    _, is_new = await store.requests.submit(replace(TRAIN, coalesce_key="c"))
    assert is_new


async def test_identical_drawings_are_several_pictures(store: Store) -> None:
    draw = NewRequest("fal-ai/flux-lora", "inference", {"prompt": "a cat"})
    assert len({(await store.requests.submit(draw))[0].id for _ in range(4)}) == 4


async def test_a_full_queue_is_refused_unless_the_request_is_already_there(store: Store) -> None:
    await store.requests.submit(replace(TRAIN, max_queue_length=0, idempotency_key="i"))
    with pytest.raises(QueueFull, match="fal_max_queue_length"):
        await store.requests.submit(replace(TRAIN, max_queue_length=0))
    await store.requests.submit(replace(TRAIN, max_queue_length=0, endpoint_id="fal-ai/other"))
    _, is_new = await store.requests.submit(replace(TRAIN, max_queue_length=0, idempotency_key="i"))
    assert not is_new
    await store.leases.claim("w", "training")  # running ones do not wait
    await store.requests.submit(replace(TRAIN, max_queue_length=0))


async def test_position_counts_those_of_its_kind_that_run_before(store: Store, submit: Any) -> None:
    low = await submit(priority=Priority.LOW)
    first, second = await submit(), await submit()
    await submit(kind="inference")
    assert [await store.requests.position(request) for request in (first, second, low)] == [0, 1, 2]
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    assert [await store.requests.position(request) for request in (claim.request, second, low)] == [0, 0, 1]


async def test_notes_of_the_web_half_are_the_first_log_lines(store: Store, submit: Any) -> None:
    request = await submit(notes=("stepz is not an input; did you mean steps?",))
    [line] = await store.requests.logs(request.id)
    assert (line.number, line.level, line.message) == (0, "WARN", "stepz is not an input; did you mean steps?")


async def test_cancelling_a_waiting_request_ends_it_at_once(store: Store, submit: Any, clock: Any) -> None:
    request = await submit()
    cancelled = await store.requests.cancel(request.id)
    assert cancelled is not None
    assert (cancelled.status, cancelled.outcome) == (Status.COMPLETED, Outcome.CANCELLED)
    assert cancelled.failure is not None
    assert cancelled.failure.status == 499
    assert cancelled.ended_at == clock.now
    assert cancelled.version > request.version
    assert await store.leases.claim("w", "training") is None
    assert await store.requests.cancel(request.id) == cancelled


async def test_cancelling_a_running_request_tells_its_worker(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    asked = await store.requests.cancel(request.id)
    assert asked is not None
    assert (asked.status, asked.cancel_requested) == (Status.IN_PROGRESS, True)
    assert (await store.leases.heartbeat(claim)).cancel
    assert await store.requests.cancel(request.id) == asked


async def test_stopping_a_running_training_tells_its_worker_in_every_attempt(store: Store, submit: Any) -> None:
    request = await submit()
    with pytest.raises(BadRequest, match="has not begun"):
        await store.requests.stop(request.id)
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    assert not (await store.leases.heartbeat(claim, step=1, total=9)).stop
    asked = await store.requests.stop(request.id)
    assert asked is not None
    assert (asked.status, asked.stop_requested, asked.cancel_requested) == (Status.IN_PROGRESS, True, False)
    assert (await store.leases.heartbeat(claim)).stop
    assert await store.requests.stop(request.id) == asked
    await store.leases.release(claim, Ending.KILLED, "lost")
    second = await store.leases.claim("w", "training")
    assert second is not None
    assert (await store.leases.heartbeat(second)).stop
    await store.leases.fail(second, InternalError("broken").failure())
    again = await store.requests.retry(request.id)
    assert again is not None
    assert not again.stop_requested
    assert await store.requests.stop("unknown") is None


async def test_only_trainings_can_be_stopped_and_kept(store: Store, submit: Any) -> None:
    request = await submit(kind="inference")
    with pytest.raises(BadRequest, match="Only a training"):
        await store.requests.stop(request.id)


async def test_retry_puts_a_failed_request_back_at_its_old_place(store: Store, submit: Any, clock: Any) -> None:
    request = await submit(start_deadline=clock.now + 5)
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.fail(claim, InternalError("broken").failure())
    await submit()
    clock.advance(60)
    again = await store.requests.retry(request.id)
    assert again is not None
    assert (again.status, again.outcome, again.failure, again.ended_at) == (Status.IN_QUEUE, None, None, None)
    assert (again.cancel_requested, again.strikes, again.start_deadline) == (False, 0, None)
    second = await store.leases.claim("w", "training")
    assert second is not None
    assert second.request.id == request.id
    assert second.token > claim.token
    assert [attempt.ending for attempt in await store.requests.attempts(request.id)] == [Ending.FAILED, None]


async def test_retry_leaves_what_runs_or_succeeded_alone(store: Store, submit: Any) -> None:
    request = await submit()
    assert await store.requests.retry(request.id) == request
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.complete(claim, {"done": True}, [])
    done = await store.requests.get(request.id)
    assert await store.requests.retry(request.id) == done


async def test_list_is_newest_first_and_can_be_paged(store: Store, submit: Any, clock: Any) -> None:
    requests = []
    for endpoint_id in ("a", "b", "a"):
        requests.append(await submit(endpoint_id=endpoint_id))
        clock.advance(1)
    await store.requests.cancel(requests[2].id)
    newest_first = [request.id for request in reversed(requests)]
    assert [request.id for request in await store.requests.list()] == newest_first
    page = await store.requests.list(limit=2)
    assert [request.id for request in await store.requests.list(before=page[-1].created_at)] == newest_first[2:]
    assert [request.id for request in await store.requests.list(status=Status.IN_QUEUE)] == newest_first[1:]
    assert [request.id for request in await store.requests.list(endpoint_id="a")] == newest_first[::2]
