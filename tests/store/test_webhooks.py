from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.clock import Clock

from tintype.errors import BadRequest, InvalidArchive, NotFound
from tintype.store import Delivery, DeliveryState, NewRequest, Request, Store
from tintype.store.webhooks import FIRST_TRY_SECONDS, LEASE_MARGIN_SECONDS, LONGEST_WAIT, MOST_TRIES, wait_after

pytestmark = pytest.mark.anyio

URL = "https://user:secret@hooks.example:8443/fal?x=1"


async def ended(store: Store, submit: Any, output: Any = None, **given: Any) -> Request:
    """A request with a webhook that has ended well."""
    request = await submit(**{"webhook_url": URL} | given)
    claim = await store.leases.claim("worker", "training")
    assert claim is not None
    assert claim.request.id == request.id
    await store.leases.complete(claim, {"seed": 42} if output is None else output, [])
    return request


async def only(store: Store, request: Request) -> Delivery:
    [delivery] = await store.webhooks.list(request.id)
    return delivery


async def test_a_result_and_its_webhook_appear_together(store: Store, submit: Any, clock: Clock) -> None:
    request = await submit(webhook_url=URL)
    assert await store.webhooks.claim(10) == []
    claim = await store.leases.claim("worker", "training")
    assert claim is not None
    await store.leases.complete(claim, {"seed": 42}, [])
    [delivery] = await store.webhooks.claim(10)
    assert (delivery.url, delivery.target, delivery.tries) == (URL, "hooks.example:8443", 1)
    assert delivery.message == {
        "request_id": request.id, "gateway_request_id": request.id, "status": "OK", "payload": {"seed": 42}
    }  # fmt: skip


async def test_whoever_asked_for_no_webhook_gets_none(store: Store, submit: Any) -> None:
    request = await ended(store, submit, webhook_url=None)
    assert await store.webhooks.list(request.id) == []


async def test_a_failure_is_told_with_its_status_and_body(store: Store, submit: Any) -> None:
    request = await submit(webhook_url=URL)
    claim = await store.leases.claim("worker", "training")
    assert claim is not None
    failure = InvalidArchive("Not an archive.").failure()
    await store.leases.fail(claim, failure)
    message = (await only(store, request)).message
    assert message is not None
    assert (message["status"], message["error"]) == ("ERROR", "Invalid status code: 422")
    assert message["payload"] == failure.body


async def test_a_request_cancelled_in_the_queue_is_told_too(store: Store, submit: Any) -> None:
    request = await submit(webhook_url=URL)
    await store.requests.cancel(request.id)
    message = (await only(store, request)).message
    assert message is not None
    assert message["error"] == "Invalid status code: 499"


async def test_an_output_beyond_json_is_said_to_be_one(store: Store, submit: Any) -> None:
    request = await ended(store, submit, {"loss": float("nan"), "steps": 3})
    message = (await only(store, request)).message
    assert message is not None
    assert (message["status"], message["payload"]) == ("OK", None)
    assert "payload_error" in message
    stored = await store.requests.get(request.id)
    assert stored is not None
    assert stored.output == {"loss": None, "steps": 3}


async def test_two_who_deliver_never_have_the_same_webhook(store: Store, submit: Any) -> None:
    for _ in range(6):
        await ended(store, submit)
    taken = await asyncio.gather(*(store.webhooks.claim(2) for _ in range(6)))
    ids = [delivery.id for some in taken for delivery in some]
    assert len(ids) == len(set(ids))
    while more := await store.webhooks.claim(2):
        ids += [delivery.id for delivery in more]
    assert len(ids) == len(set(ids)) == 6


async def test_a_try_that_was_lost_is_made_again_and_cannot_speak_any_more(
    store: Store, submit: Any, clock: Clock
) -> None:
    request = await ended(store, submit)
    [lost] = await store.webhooks.claim(1)
    clock.advance(FIRST_TRY_SECONDS + LEASE_MARGIN_SECONDS + 1)
    [second] = await store.webhooks.claim(1)
    assert second.message == lost.message
    await store.webhooks.delivered(lost, "200")
    assert (await only(store, request)).state is DeliveryState.WAITING
    await store.webhooks.delivered(second, "204")
    assert (await only(store, request)).state is DeliveryState.DELIVERED
    assert await store.webhooks.claim(1) == []


async def test_a_try_that_failed_is_followed_by_others_ever_later_and_an_end(
    store: Store, submit: Any, clock: Clock
) -> None:
    request = await ended(store, submit)
    began, tries = clock.now, 0
    while True:
        delivery = await only(store, request)
        if delivery.state is not DeliveryState.WAITING:
            break
        clock.advance(max(delivery.due_at - clock.now, 0.0))
        [claimed] = await store.webhooks.claim(1)
        tries += 1
        await store.webhooks.not_delivered(claimed, "answered 503", first_wait=5.0)
    assert (delivery.state, tries, delivery.answer) == (DeliveryState.GIVEN_UP, MOST_TRIES, "answered 503")
    assert clock.now - began > 3 * 86400


def test_waits_double_up_to_four_hours() -> None:
    assert [wait_after(tries, 5.0) for tries in (1, 2, 3)] == [5.0, 10.0, 20.0]
    assert wait_after(MOST_TRIES, 5.0) == LONGEST_WAIT


async def test_nothing_is_tried_after_the_result_has_expired(store: Store, submit: Any) -> None:
    request = await ended(store, submit, file_lifetime=3.0)
    [delivery] = await store.webhooks.claim(1)
    await store.webhooks.not_delivered(delivery, "no answer", first_wait=5.0)
    assert (await only(store, request)).state is DeliveryState.GIVEN_UP


async def test_a_busy_target_does_not_stand_in_the_way_of_others(store: Store, submit: Any) -> None:
    for _ in range(3):
        await ended(store, submit, webhook_url="https://slow.example/")
    quick = await ended(store, submit, webhook_url="https://quick.example/")
    [delivery] = await store.webhooks.claim(1, busy=["slow.example"])
    assert delivery.request_id == quick.id


async def test_a_try_that_is_handed_back_was_none(store: Store, submit: Any) -> None:
    await ended(store, submit)
    [delivery] = await store.webhooks.claim(1)
    await store.webhooks.hand_back(delivery)
    [again] = await store.webhooks.claim(1)
    assert again.tries == 1


async def test_a_replay_says_the_same_and_leaves_the_first_as_it_was(store: Store, submit: Any) -> None:
    request = await ended(store, submit)
    [delivery] = await store.webhooks.claim(1)
    await store.webhooks.delivered(delivery, "200")
    replayed = await store.webhooks.replay(request.id)
    assert (replayed.message, replayed.tries) == (delivery.message, 0)
    assert [d.state for d in await store.webhooks.list(request.id)] == [DeliveryState.WAITING, DeliveryState.DELIVERED]


async def test_a_replay_of_one_that_waits_only_hurries_it(store: Store, submit: Any) -> None:
    request = await ended(store, submit)
    [delivery] = await store.webhooks.claim(1)
    await store.webhooks.not_delivered(delivery, "answered 500", first_wait=500.0)
    assert await store.webhooks.claim(1) == []
    await store.webhooks.replay(request.id)
    [claimed] = await store.webhooks.claim(1)
    await store.webhooks.replay(request.id)
    assert await store.webhooks.claim(1) == []  # it is being tried
    assert claimed.id == delivery.id


async def test_what_was_not_to_be_kept_is_gone_once_delivered(store: Store, submit: Any) -> None:
    request = await ended(store, submit, store_io=False)
    [delivery] = await store.webhooks.claim(1)
    assert delivery.message is not None
    await store.webhooks.delivered(delivery, "200")
    assert (await only(store, request)).message is None
    with pytest.raises(BadRequest, match="not kept any more"):
        await store.webhooks.replay(request.id)


async def test_only_what_has_a_webhook_can_be_replayed(store: Store, submit: Any) -> None:
    for request_id in ("no-such", "\0", (await submit()).id):
        with pytest.raises(NotFound, match="no webhook"):
            await store.webhooks.replay(request_id)


async def test_a_retry_that_goes_well_takes_the_place_of_the_failure_that_waits(store: Store, submit: Any) -> None:
    request = await submit(webhook_url=URL)
    claim = await store.leases.claim("worker", "training")
    assert claim is not None
    await store.leases.fail(claim, InvalidArchive("Not an archive.").failure())
    await store.requests.retry(request.id)
    claim = await store.leases.claim("worker", "training")
    assert claim is not None
    await store.leases.complete(claim, {"seed": 1}, [])
    newest, failed = await store.webhooks.list(request.id)
    assert failed.state is DeliveryState.GIVEN_UP
    assert newest.message is not None
    assert newest.message["status"] == "OK"
    assert [d.id for d in await store.webhooks.claim(5)] == [newest.id]


async def test_a_webhook_outlives_the_process_that_wrote_it(shared_url: str) -> None:
    first = await Store.open(shared_url)
    request, _ = await first.requests.submit(NewRequest("fal-ai/trainer", "training", {"steps": 3}, webhook_url=URL))
    await first.requests.cancel(request.id)
    await first.close()
    second = await Store.open(shared_url)
    [delivery] = await second.webhooks.claim(1)
    await second.close()
    assert delivery.request_id == request.id
