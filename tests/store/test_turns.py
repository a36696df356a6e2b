"""Within a lane people take turns, however much each of them has queued; and what one person may have is limited."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from tests.support.clock import Clock

from tintype.errors import LimitReached
from tintype.settings import Limits, Settings
from tintype.store import Claim, Ending, NewRequest, Priority, Request, Store, StoredFile, schema
from tintype.store.requests import _standing, may_run
from tintype.store.schema import requests as table

pytestmark = pytest.mark.anyio
Submit = Callable[..., Awaitable[Request]]


@pytest.fixture
def submit(store: Store) -> Submit:
    async def submit(owner: str, **given: Any) -> Request:
        return await submitted(store, owner, **given)

    return submit


async def submitted(store: Store, owner: str, **given: Any) -> Request:
    new = NewRequest(**{"endpoint_id": "e", "kind": "training", "input": {}, "key_id": owner, "owner": owner} | given)
    return (await store.requests.submit(new))[0]


async def starts(store: Store, count: int) -> list[str]:
    """Whose requests are claimed next."""
    claims = [await store.leases.claim("w", "training") for _ in range(count)]
    return [claim.request.key_id for claim in claims if claim is not None]


# --- turns ----------------------------------------------------------------------------------------------------


async def test_the_next_person_is_next_however_many_the_first_has_queued(store: Store, submit: Submit) -> None:
    for _ in range(30):
        await submit("ada")
    bob = await submit("bob")
    assert await store.requests.position(bob) == 1
    last = [await submit("ada"), await submit("bob"), await submit("cy")][-1]
    assert await store.requests.position(last) == 2
    assert await starts(store, 7) == ["ada", "bob", "cy", "ada", "bob", "ada", "ada"]


async def test_keys_of_one_name_are_one_person_in_the_line(store: Store, submit: Submit) -> None:
    for number in range(6):
        await submit("ada", key_id=f"ada's {number}")
    await submit("bob")
    assert (await starts(store, 3))[1] == "bob"


async def test_who_comes_back_at_once_every_time_does_not_keep_others_waiting(store: Store, submit: Submit) -> None:
    """Two who send one after the other must not hold the line at the turn of somebody's first request."""
    for _ in range(2):
        await submit("bob")
    await submit("ada")
    await submit("eve")
    order = []
    for _ in range(6):
        claim = await store.leases.claim("w", "training")
        assert claim is not None
        await store.leases.complete(claim, {}, [])
        order.append(claim.request.key_id)
        if claim.request.key_id != "bob":
            await submit(claim.request.key_id)
    assert order[:4].count("bob") == 2


async def test_priorities_have_turns_of_their_own(store: Store, submit: Submit) -> None:
    for _ in range(5):
        await submit("ada", priority=Priority.LOW)
    await submit("bob")
    await submit("bob")
    await submit("ada")
    assert await starts(store, 4) == ["bob", "ada", "bob", "ada"]


async def test_what_was_cancelled_before_it_began_takes_no_turn(store: Store, submit: Submit) -> None:
    for request in [await submit("ada") for _ in range(10)]:
        await store.requests.cancel(request.id)
    for owner in ("bob", "ada", "bob", "bob"):
        await submit(owner)
    assert await starts(store, 3) == ["bob", "ada", "bob"]


async def test_a_request_that_was_given_back_or_retried_keeps_its_turn(store: Store, submit: Submit) -> None:
    first = await submit("ada")
    for owner in ("bob", "cy", "ada"):
        await submit(owner)
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    assert claim.request.id == first.id
    await store.leases.release(claim, Ending.DRAINED, "drained")
    again = await store.leases.claim("w", "training")
    assert again is not None
    assert again.request.id == first.id
    await store.requests.cancel(first.id)
    await store.leases.release(again, Ending.DIED, "killed")
    await store.requests.retry(first.id)
    retried = await store.requests.get(first.id)
    assert retried is not None
    assert await store.requests.position(retried) == 0


async def test_a_resumed_request_does_not_turn_the_line_back(store: Store, submit: Submit) -> None:
    """The turn of one that is given back after long is far behind; newcomers do not get it."""
    old = await submit("bob")
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    for _ in range(5):
        await submit("ada")
    assert await starts(store, 3) == ["ada"] * 3
    await store.leases.release(claim, Ending.DRAINED, "drained")
    for _ in range(5):
        await submit("cy")
    assert await starts(store, 5) == ["bob", "ada", "cy", "ada", "cy"]
    assert old.key_id == "bob"


class Line:
    """A lane at random, and how often each person who waits was passed by each other one."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.people = [f"person {number}" for number in range(self.random.randint(2, 5))]
        self.waiting: dict[str, list[Request]] = {person: [] for person in self.people}
        self.running: list[Claim] = []
        self.resumed: set[str] = set()
        self.has_been = set[str]()
        self.passed = Counter[tuple[str, str]]()

    async def submit(self) -> None:
        person = self.random.choice(self.people)
        for _ in range(self.random.choice([1, 1, 1, 8])):
            self.waiting[person].append(await submitted(self.store, person))

    async def claim(self) -> None:
        claim = await self.store.leases.claim("w", "training")
        assert (claim is None) == (not any(self.waiting.values()) and not self.resumed)
        if claim is None:
            return
        self.running.append(claim)
        if claim.request.id in self.resumed:
            self.resumed.remove(claim.request.id)
            return
        whose = claim.request.key_id
        assert claim.request.id == self.waiting[whose].pop(0).id  # one's own stay in the order they were sent in
        self.has_been.add(whose)
        for other in self.people:
            self.passed[other, whose] = self.passed[other, whose] + 1 if self.waiting[other] and other != whose else 0
            self.passed[whose, other] = 0
            assert self.passed[other, whose] <= (2 if other in self.has_been else 1), (whose, "passed", other)

    async def end(self) -> None:
        if self.running:
            claim = self.running.pop(self.random.randrange(len(self.running)))
            if self.random.random() < 0.15:
                await self.store.leases.release(claim, Ending.DRAINED, "drained")
                self.resumed.add(claim.request.id)
            else:
                await self.store.leases.complete(claim, {}, [])

    async def cancel(self) -> None:
        mine = self.waiting[self.random.choice(self.people)]
        if mine:
            await self.store.requests.cancel(mine.pop().id)
        for other, whose in self.passed:
            self.passed[other, whose] *= bool(self.waiting[other])


MANY = [pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 12)]


@pytest.mark.parametrize("seed", [*range(3), *MANY])
async def test_nobody_who_waits_is_passed_by_the_same_person_more_than_twice_between_two_of_his_own(
    store: Store, seed: int
) -> None:
    line = Line(store, seed)
    for _ in range(100):
        await line.random.choice([line.submit, line.claim, line.claim, line.end, line.end, line.cancel])()


# --- limits ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def limited(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    limits = Limits(waiting_requests=4, waiting_trainings=2, running_requests=2, stored_bytes=1000)
    store = await Store.open(database_url, clock=clock, limits=limits)
    yield store
    await store.close()


async def outcome(work: Awaitable[object]) -> str:
    """Nothing, or what is said of the limit that was reached."""
    try:
        await work
    except LimitReached as problem:
        return problem.message
    return ""


@pytest.mark.parametrize(("kind", "most"), [("training", 2), ("inference", 4)])
async def test_parallel_submits_do_not_slip_past_a_limit(limited: Store, kind: str, most: int) -> None:
    told = await asyncio.gather(*(outcome(submitted(limited, "ada", kind=kind)) for _ in range(12)))
    assert told.count("") == most
    assert "TINTYPE_MAX_WAITING_" in max(told)
    assert f"limit of {most} waiting {'trainings' if kind == 'training' else 'requests'} for one person" in max(told)
    assert await outcome(submitted(limited, "bob", kind=kind)) == ""
    assert await outcome(submitted(limited, "ada", kind=kind, key_id="another of Ada's")) != ""


async def test_where_no_key_is_asked_for_all_are_one_person(limited: Store) -> None:
    told = [await outcome(submitted(limited, "")) for _ in range(3)]
    assert [bool(message) for message in told] == [False, False, True]


async def test_a_place_is_free_again_once_one_has_begun_or_was_cancelled(limited: Store) -> None:
    await submitted(limited, "ada")
    second = await submitted(limited, "ada")
    await limited.leases.claim("w", "training")
    await submitted(limited, "ada")
    assert await outcome(submitted(limited, "ada"))
    await limited.requests.cancel(second.id)
    assert await outcome(submitted(limited, "ada")) == ""


async def test_a_request_sent_again_is_no_further_one(limited: Store) -> None:
    first = await submitted(limited, "ada", idempotency_key="i")
    await submitted(limited, "ada")
    assert (await submitted(limited, "ada", idempotency_key="i")).id == first.id


async def test_what_is_over_the_running_limit_waits_and_lets_others_by(limited: Store) -> None:
    for _ in range(2):
        await submitted(limited, "ada")
    claims = await asyncio.gather(*(limited.leases.claim(f"w{number}", "training") for number in range(2)))
    assert all(claims)
    third = await submitted(limited, "ada")
    assert await limited.leases.claim("w", "training") is None
    await submitted(limited, "ada", kind="inference")
    assert await limited.leases.claim("w", "inference") is not None  # each lane by itself
    bob = await submitted(limited, "bob")
    claim = await limited.leases.claim("w", "training", resident=["flux"])
    assert claim is not None
    assert claim.request.id == bob.id
    assert claims[0] is not None
    await limited.leases.complete(claims[0], {}, [])
    claim = await limited.leases.claim("w", "training")
    assert claim is not None
    assert claim.request.id == third.id


async def test_parallel_claims_do_not_slip_past_the_running_limit(limited: Store) -> None:
    for kind in ("training", "training", "inference", "inference"):
        await submitted(limited, "ada", kind=kind)
    claims = [await limited.leases.claim("w", "training") for _ in range(2)]
    assert all(claims)
    await submitted(limited, "ada", priority=Priority.LOW)
    assert await asyncio.gather(*(limited.leases.claim(f"w{n}", "training") for n in range(4))) == [None] * 4


def file(file_id: str, size: int, key_id: str) -> StoredFile:
    return StoredFile(file_id, "a.zip", "application/zip", size, 1.0, key_id=key_id)


async def test_stored_bytes_are_counted_over_all_keys_of_a_person(limited: Store) -> None:
    (first, _), (second, _), (other, _) = [await limited.keys.create(name) for name in ("ada", "ada", "bob")]
    await limited.files.add(file("a", 600, first.id))
    await limited.files.add(file("a", 500, first.id))  # in place of the former
    told = await asyncio.gather(*(outcome(limited.files.add(file(f"b{n}", 300, second.id))) for n in range(4)))
    assert told.count("") == 1
    assert "limit of 1,000 stored bytes for one person" in max(told)
    assert [await limited.files.find(f"b{n}") for n in range(4)].count(None) == 3
    assert await outcome(limited.files.add(file("c", 900, other.id))) == ""


async def test_nothing_new_begins_for_whoever_stores_too_much(limited: Store) -> None:
    request = await submitted(limited, "ada")
    claim = await limited.leases.claim("w", "training")
    assert claim is not None
    await limited.leases.complete(claim, {}, [file("r", 5000, "")])  # a result is kept, however large
    assert [stored.size for stored in await limited.files.of_request(request.id)] == [5000]
    assert "gc --older-than" in await outcome(submitted(limited, "ada"))
    assert await outcome(submitted(limited, "bob")) == ""


# --- the version before ---------------------------------------------------------------------------------------


async def test_what_waited_before_there_were_turns_is_put_into_turns(tmp_path: Path) -> None:
    url = Settings(data_dir=tmp_path).database_url
    store = await Store.open(url)
    keys = [(await store.keys.create(name))[0].id for name in ("ada", "ada", "bob", "")]
    for key_id in (*[keys[0]] * 3, keys[1], keys[2], keys[3]):
        await submitted(store, "", key_id=key_id)
    async with store._database.write() as connection:
        for index in ("requests_used", "requests_waiting", "requests_unfinished", "requests_turns", "files_of"):
            await connection.execute(sa.text(f"DROP INDEX {index}"))
        later = (
            "units",
            "operations",
            "device_seconds",
            "watt_hours",
            "status_code",
            "receipt",
            "is_rehearsal",
            "stop_requested",
        )
        for column in ("owner", "turn", *later):
            await connection.execute(sa.text(f"ALTER TABLE requests DROP COLUMN {column}"))
        await connection.execute(sa.text("ALTER TABLE api_keys DROP COLUMN scope"))
        for kept in ("storage_settings", "dataset_photos", "datasets"):
            await connection.execute(sa.text(f"DROP TABLE {kept}"))
        await connection.execute(
            sa.text("CREATE INDEX requests_waiting ON requests (kind, priority, place) WHERE status = 'IN_QUEUE'")
        )
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '0007'"))
    await store.close()
    store = await Store.open(url)
    rows = await store._database.fetch(sa.select(table.c.owner, table.c.turn).order_by(table.c.place))
    assert [tuple(row) for row in rows] == [
        ("ada", 0), ("ada", 1), ("ada", 2), ("ada", 3), ("bob", 0), (keys[3], 0),
    ]  # fmt: skip
    await submitted(store, "cy")
    assert await starts(store, 4) == [keys[0], keys[2], keys[3], "cy"]
    await store.close()


async def test_neither_a_claim_nor_a_submit_looks_through_what_waits_or_has_ended(tmp_path: Path) -> None:
    store = await Store.open(Settings(data_dir=tmp_path).database_url)
    limits = Limits(waiting_requests=9, waiting_trainings=9, running_requests=9)
    line = sa.select(table.c.id).where(*may_run("training", 9)).order_by(*schema.IN_LINE).limit(64)
    for query in (line, _standing(limits)):
        text = str(query.compile(dialect=sqlite.dialect())).replace("?", "'x'")
        async with store._database.write() as connection:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")).all()
        steps = [str(row.detail) for row in plan]
        assert [step for step in steps if step.startswith("SCAN requests")] == []
        assert [step for step in steps if "TEMP B-TREE" in step] == []
        assert any("requests_waiting" in step for step in steps)
    await store.close()
