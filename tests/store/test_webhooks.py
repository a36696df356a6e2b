from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.clock import Clock

from tintype.errors import BadRequest, InvalidArchive, NotFound
from tintype.store import Delivery, DeliveryState, NewRequest, Queue, Request
from tintype.store.webhooks import FIRST_TRY_SECONDS, LEASE_MARGIN_SECONDS, LONGEST_WAIT, MOST_TRIES, wait_after

pytestmark = pytest.mark.anyio

URL = "https://user:secret@hooks.example:8443/fal?x=1"


async def ended(queue: Queue, submit: Any, output: Any = None, **given: Any) -> Request:
    """A request with a webhook that has ended well."""
    request = await submit(**{"webhook_url": URL} | given)
    claim = await queue.claim("worker", "training")
    assert claim is not None
    assert claim.request.id == request.id
    await queue.complete(claim, {"seed": 42} if output is None else output, [])
    return request


async def only(queue: Queue, request: Request) -> Delivery:
    [delivery] = await queue.deliveries(request.id)
    return delivery


async def test_a_result_and_its_webhook_appear_together(queue: Queue, submit: Any, clock: Clock) -> None:
    request = await submit(webhook_url=URL)
    assert await queue.claim_deliveries(10) == []
    claim = await queue.claim("worker", "training")
    assert claim is not None
    await queue.complete(claim, {"seed": 42}, [])
    [delivery] = await queue.claim_deliveries(10)
    assert (delivery.url, delivery.target, delivery.tries) == (URL, "hooks.example:8443", 1)
    assert delivery.message == {
        "request_id": request.id, "gateway_request_id": request.id, "status": "OK", "payload": {"seed": 42}
    }  # fmt: skip


async def test_whoever_asked_for_no_webhook_gets_none(queue: Queue, submit: Any) -> None:
    request = await ended(queue, submit, webhook_url=None)
    assert await queue.deliveries(request.id) == []


async def test_a_failure_is_told_with_its_status_and_body(queue: Queue, submit: Any) -> None:
    request = await submit(webhook_url=URL)
    claim = await queue.claim("worker", "training")
    assert claim is not None
    failure = InvalidArchive("Not an archive.").failure()
    await queue.fail(claim, failure)
    message = (await only(queue, request)).message
    assert message is not None
    assert (message["status"], message["error"]) == ("ERROR", "Invalid status code: 422")
    assert message["payload"] == failure.body


async def test_a_request_cancelled_in_the_queue_is_told_too(queue: Queue, submit: Any) -> None:
    request = await submit(webhook_url=URL)
    await queue.cancel(request.id)
    message = (await only(queue, request)).message
    assert message is not None
    assert message["error"] == "Invalid status code: 499"


async def test_an_output_beyond_json_is_said_to_be_one(queue: Queue, submit: Any) -> None:
    request = await ended(queue, submit, {"loss": float("nan"), "steps": 3})
    message = (await only(queue, request)).message
    assert message is not None
    assert (message["status"], message["payload"]) == ("OK", None)
    assert "payload_error" in message
    stored = await queue.get(request.id)
    assert stored is not None
    assert stored.output == {"loss": None, "steps": 3}


async def test_two_who_deliver_never_have_the_same_webhook(queue: Queue, submit: Any) -> None:
    for _ in range(6):
        await ended(queue, submit)
    taken = await asyncio.gather(*(queue.claim_deliveries(2) for _ in range(6)))
    ids = [delivery.id for some in taken for delivery in some]
    assert len(ids) == len(set(ids))
    while more := await queue.claim_deliveries(2):
        ids += [delivery.id for delivery in more]
    assert len(ids) == len(set(ids)) == 6


async def test_a_try_that_was_lost_is_made_again_and_cannot_speak_any_more(
    queue: Queue, submit: Any, clock: Clock
) -> None:
    request = await ended(queue, submit)
    [lost] = await queue.claim_deliveries(1)
    clock.advance(FIRST_TRY_SECONDS + LEASE_MARGIN_SECONDS + 1)
    [second] = await queue.claim_deliveries(1)
    assert second.message == lost.message
    await queue.delivered(lost, "200")
    assert (await only(queue, request)).state is DeliveryState.WAITING
    await queue.delivered(second, "204")
    assert (await only(queue, request)).state is DeliveryState.DELIVERED
    assert await queue.claim_deliveries(1) == []


async def test_a_try_that_failed_is_followed_by_others_ever_later_and_an_end(
    queue: Queue, submit: Any, clock: Clock
) -> None:
    request = await ended(queue, submit)
    began, tries = clock.now, 0
    while True:
        delivery = await only(queue, request)
        if delivery.state is not DeliveryState.WAITING:
            break
        clock.advance(max(delivery.due_at - clock.now, 0.0))
        [claimed] = await queue.claim_deliveries(1)
        tries += 1
        await queue.not_delivered(claimed, "answered 503", first_wait=5.0)
    assert (delivery.state, tries, delivery.answer) == (DeliveryState.GIVEN_UP, MOST_TRIES, "answered 503")
    assert clock.now - began > 3 * 86400


def test_waits_double_up_to_four_hours() -> None:
    assert [wait_after(tries, 5.0) for tries in (1, 2, 3)] == [5.0, 10.0, 20.0]
    assert wait_after(MOST_TRIES, 5.0) == LONGEST_WAIT


async def test_nothing_is_tried_after_the_result_has_expired(queue: Queue, submit: Any) -> None:
    request = await ended(queue, submit, file_lifetime=3.0)
    [delivery] = await queue.claim_deliveries(1)
    await queue.not_delivered(delivery, "no answer", first_wait=5.0)
    assert (await only(queue, request)).state is DeliveryState.GIVEN_UP


async def test_a_busy_target_does_not_stand_in_the_way_of_others(queue: Queue, submit: Any) -> None:
    for _ in range(3):
        await ended(queue, submit, webhook_url="https://slow.example/")
    quick = await ended(queue, submit, webhook_url="https://quick.example/")
    [delivery] = await queue.claim_deliveries(1, busy=["slow.example"])
    assert delivery.request_id == quick.id


async def test_a_try_that_is_handed_back_was_none(queue: Queue, submit: Any) -> None:
    await ended(queue, submit)
    [delivery] = await queue.claim_deliveries(1)
    await queue.hand_back(delivery)
    [again] = await queue.claim_deliveries(1)
    assert again.tries == 1


async def test_a_replay_says_the_same_and_leaves_the_first_as_it_was(queue: Queue, submit: Any) -> None:
    request = await ended(queue, submit)
    [delivery] = await queue.claim_deliveries(1)
    await queue.delivered(delivery, "200")
    replayed = await queue.replay(request.id)
    assert (replayed.message, replayed.tries) == (delivery.message, 0)
    assert [d.state for d in await queue.deliveries(request.id)] == [DeliveryState.WAITING, DeliveryState.DELIVERED]


async def test_a_replay_of_one_that_waits_only_hurries_it(queue: Queue, submit: Any) -> None:
    request = await ended(queue, submit)
    [delivery] = await queue.claim_deliveries(1)
    await queue.not_delivered(delivery, "answered 500", first_wait=500.0)
    assert await queue.claim_deliveries(1) == []
    await queue.replay(request.id)
    [claimed] = await queue.claim_deliveries(1)
    await queue.replay(request.id)
    assert await queue.claim_deliveries(1) == []  # it is being tried
    assert claimed.id == delivery.id


async def test_what_was_not_to_be_kept_is_gone_once_delivered(queue: Queue, submit: Any) -> None:
    request = await ended(queue, submit, store_io=False)
    [delivery] = await queue.claim_deliveries(1)
    assert delivery.message is not None
    await queue.delivered(delivery, "200")
    assert (await only(queue, request)).message is None
    with pytest.raises(BadRequest, match="not kept any more"):
        await queue.replay(request.id)


async def test_only_what_has_a_webhook_can_be_replayed(queue: Queue, submit: Any) -> None:
    for request_id in ("no-such", "\0", (await submit()).id):
        with pytest.raises(NotFound, match="no webhook"):
            await queue.replay(request_id)


async def test_a_retry_that_goes_well_takes_the_place_of_the_failure_that_waits(queue: Queue, submit: Any) -> None:
    request = await submit(webhook_url=URL)
    claim = await queue.claim("worker", "training")
    assert claim is not None
    await queue.fail(claim, InvalidArchive("Not an archive.").failure())
    await queue.retry(request.id)
    claim = await queue.claim("worker", "training")
    assert claim is not None
    await queue.complete(claim, {"seed": 1}, [])
    newest, failed = await queue.deliveries(request.id)
    assert failed.state is DeliveryState.GIVEN_UP
    assert newest.message is not None
    assert newest.message["status"] == "OK"
    assert [d.id for d in await queue.claim_deliveries(5)] == [newest.id]


async def test_a_webhook_outlives_the_process_that_wrote_it(shared_url: str) -> None:
    first = await Queue.open(shared_url)
    request, _ = await first.submit(NewRequest("fal-ai/trainer", "training", {"steps": 3}, webhook_url=URL))
    await first.cancel(request.id)
    await first.close()
    second = await Queue.open(shared_url)
    [delivery] = await second.claim_deliveries(1)
    await second.close()
    assert delivery.request_id == request.id
