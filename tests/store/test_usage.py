"""Sums, percentiles and what is usual, over requests that ended at times that a test sets."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.clock import Clock

from tintype.errors import Cancelled, Failure
from tintype.store import Ending, Scope, Store
from tintype.store.usage import Which

pytestmark = pytest.mark.anyio

FAILURE = Failure(422, {"message": "no"}, "value_error")
FAULT = Failure(504, {"message": "late"}, "request_timeout")


@pytest.fixture
def run(store: Store, clock: Clock, submit: Any) -> Any:
    """Runs a request for so many seconds, beginning now; it waited a second before."""

    async def run(seconds: float, failure: Failure | None = None, watt_hours: float | None = None, **given: Any) -> str:
        request = await submit(**given)
        clock.advance(1.0)
        claim = await store.leases.claim("w", given.get("kind", "training"))
        assert claim is not None
        clock.advance(seconds)
        if failure is None:
            await store.leases.complete(claim, {}, [], watt_hours=watt_hours)
        else:
            await store.leases.fail(claim, failure, watt_hours=watt_hours)
        return str(request.id)

    return run


async def test_a_span_holds_what_ended_in_it_by_endpoint(store: Store, clock: Clock, run: Any) -> None:
    began = clock.now
    await run(10.0, units=5.0, endpoint_id="a/b", watt_hours=2.0)  # ends at 11
    await run(20.0, units=7.0, endpoint_id="a/b", watt_hours=3.0)  # ends at 32
    await run(5.0, FAILURE, units=100.0, endpoint_id="a/b")  # ends at 38
    await run(1.0, units=1.0, endpoint_id="c/d")  # ends at 40
    spans = [(began, began + 32), (began + 32, began + 40.5), (began + 40.5, began + 50)]
    first, second, third = await store.usage.sums(spans, Which())
    assert (first.span, first.endpoint_id, first.requests, first.units, first.watt_hours) == (0, "a/b", 1, 5.0, 2.0)
    assert (second.span, second.requests, second.ok, second.user_errors, second.errors) == (1, 2, 1, 1, 0)
    assert (second.units, second.device_seconds, second.watt_hours) == (7.0, 25.0, 3.0), "what failed costs no units"
    assert (third.span, third.endpoint_id, third.watt_hours) == (1, "c/d", None)


async def test_a_person_sees_his_own_and_what_was_sent_without_a_key(store: Store, clock: Clock, run: Any) -> None:
    anna, _ = await store.keys.create("anna")
    ben, _ = await store.keys.create("ben")
    await run(1.0, key_id=anna.id, owner="anna", units=1.0)
    await run(1.0, key_id=ben.id, owner="ben", units=2.0)
    await run(1.0, units=4.0)
    whole = [(0.0, clock.now + 1)]

    async def units(**which: Any) -> float:
        return sum(line.units for line in await store.usage.sums(whole, Which(**which)))

    assert await units() == 7.0
    assert await units(owner="anna") == 5.0
    assert await units(owners=["ben"]) == 2.0
    assert await units(key_ids=[anna.id]) == 1.0
    assert await units(endpoints=["no/such"]) == 0.0
    by_key = await store.usage.sums(whole, Which(), by_key=True)
    assert {line.key_id: line.units for line in by_key} == {"": 4.0, anna.id: 1.0, ben.id: 2.0}


async def test_percentiles_are_durations_that_there_were(store: Store, clock: Clock, run: Any) -> None:
    for seconds in (4.0, 1.0, 3.0, 2.0):
        await run(seconds, endpoint_id="a/b")
    whole = [(0.0, clock.now + 1)]
    found = await store.usage.percentiles(whole, Which(), "duration", (25, 50, 75, 99))
    assert found == {(0, "a/b"): {25: 1.0, 50: 2.0, 75: 3.0, 99: 4.0}}
    waited = await store.usage.percentiles(whole, Which(), "prepare_duration", (50,))
    assert waited == {(0, "a/b"): {50: 1.0}}


async def test_what_all_attempts_took_is_added_up(store: Store, clock: Clock, submit: Any) -> None:
    request = await submit()
    for ending, seconds, used in ((Ending.DIED, 3.0, 1.0), (Ending.DRAINED, 4.0, None), (None, 5.0, 0.5)):
        claim = await store.leases.claim("w", "training")
        assert claim is not None
        clock.advance(seconds)
        if ending is None:
            await store.leases.fail(claim, FAULT, watt_hours=used)
        else:
            await store.leases.release(claim, ending, "", watt_hours=used)
    found = await store.requests.get(request.id)
    assert found is not None
    assert (found.device_seconds, found.watt_hours, found.status_code) == (12.0, 1.5, 504)
    assert (await store.requests.retry(request.id)).status_code is None


async def test_a_request_that_never_ran_is_counted_and_has_no_duration(store: Store, clock: Clock, submit: Any) -> None:
    request = await submit(units=3.0)
    await store.requests.cancel(request.id)
    (line,) = await store.usage.sums([(0.0, clock.now + 1)], Which())
    assert (line.user_errors, line.units, line.seconds) == (1, 0.0, 0.0)
    assert await store.usage.percentiles([(0.0, clock.now + 1)], Which(), "duration", (50,)) == {}
    (found,) = await store.usage.ended((0.0, clock.now + 1), Which(), ending="user_error")
    assert (found.id, found.status_code) == (request.id, Cancelled.status)


async def test_requests_are_found_by_ending_and_sorted_by_time_or_duration(
    store: Store, clock: Clock, run: Any
) -> None:
    long = await run(9.0)
    short = await run(2.0)
    await run(1.0, FAILURE)
    wrong = await run(1.0, FAULT)
    whole = (0.0, clock.now + 1)

    async def ids(**given: Any) -> list[str]:
        return [request.id for request in await store.usage.ended(whole, Which(), **given)]

    assert await ids(ending="success") == [short, long]
    assert await ids(ending="success", by_duration=True) == [long, short]
    assert await ids(ending="error") == [wrong]
    assert await ids(ending="success", limit=1, offset=1) == [long]
    assert await ids(request_id=short) == [short]


async def test_a_run_is_expected_to_take_what_those_of_its_size_took(store: Store, run: Any) -> None:
    assert await store.usage.usual_run("a/b", 1.0) is None
    for seconds in (10.0, 12.0, 90.0):
        await run(seconds, endpoint_id="a/b", operations=100.0, units=5.0)
    await run(40.0, endpoint_id="a/b", operations=400.0, units=20.0)
    await run(1000.0, FAILURE, endpoint_id="a/b", operations=100.0)
    alike = await store.usage.usual_run("a/b", 100.0)
    assert alike is not None
    assert (alike.runs, alike.seconds, alike.units) == (3, 12.0, 5.0)
    other = await store.usage.usual_run("a/b", 200.0)  # none was so large: in proportion, 20, 24, 180 and 20 seconds
    assert other is not None
    assert (other.runs, other.seconds) == (4, 24.0)
    assert await store.usage.usual_run("no/such") is None


async def test_a_key_administers_only_with_its_scope(store: Store) -> None:
    plain, _ = await store.keys.create("anna")
    admin, text = await store.keys.create("anna", Scope.ADMIN)
    assert [await store.keys.is_admin(key) for key in (plain.id, admin.id, "", "no-such")] == [False, True, True, False]
    assert (await store.keys.check(text)).scope is Scope.ADMIN
    assert {key.id: key.scope for key in await store.keys.list()} == {plain.id: Scope.API, admin.id: Scope.ADMIN}
    assert await store.keys.revoke("anna", by_name=False) == []
    assert [key.id for key in await store.keys.revoke(plain.id, by_name=False)] == [plain.id]
