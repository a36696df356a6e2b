"""The promise as a whole: under any order of events, between processes, and across a crash."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tintype.errors import Cancelled, InternalError, LeaseLost
from tintype.store import Claim, Ending, LogLine, NewRequest, Outcome, Priority, Status, Store

ACTOR = Path(__file__).parent / "actor.py"
LEASE = 30.0


# --- between processes ----------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.slow
async def test_processes_at_one_database_claim_every_request_exactly_once(shared_url: str) -> None:
    store = await Store.open(shared_url)
    ids = []
    for number in range(40):
        affinity = "even" if number % 2 == 0 else "odd"
        request, _ = await store.requests.submit(NewRequest("fal-ai/trainer", "training", {}, affinity=affinity))
        ids.append(request.id)
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, str(ACTOR), "work", shared_url, f"w{number}", stdout=asyncio.subprocess.PIPE
        )
        for number in range(3)
    ]
    outputs = await asyncio.gather(*(worker.communicate() for worker in workers))
    assert [worker.returncode for worker in workers] == [0] * 3
    claimed = [line for output, _ in outputs for line in output.decode().split()]
    assert sorted(claimed) == sorted(ids)
    assert {request.outcome for request in await store.requests.list(limit=100)} == {Outcome.OK}
    assert {len(await store.requests.attempts(request_id)) for request_id in ids} == {1}
    await store.close()


@pytest.mark.anyio
@pytest.mark.slow
async def test_what_was_answered_is_there_after_a_kill(shared_url: str) -> None:
    actor = await asyncio.create_subprocess_exec(
        sys.executable, str(ACTOR), "submit", shared_url, "0", stdout=asyncio.subprocess.PIPE
    )
    assert actor.stdout is not None
    answered = [(await actor.stdout.readline()).decode().strip() for _ in range(10)]
    actor.kill()
    rest, _ = await actor.communicate()
    answered += [line for line in rest.decode().split("\n") if len(line) == len(answered[0])]
    store = await Store.open(shared_url)
    assert None not in [await store.requests.get(request_id) for request_id in answered]
    claim = await store.leases.claim("w", "training")  # and the dead process holds no lock
    assert claim is not None
    assert claim.request.id == answered[0]
    await store.close()


# --- under any order of events --------------------------------------------------------------------------------


@dataclass
class CachedResponse:
    """What the machine knows of one request, from the answers it was given."""

    id: str
    kind: str
    status: Status = Status.IN_QUEUE
    token: int = 0
    lease_until: float = 0.0
    cancel_requested: bool = False
    attempts: int = 0
    strikes: int = 0
    advanced: bool = False  # the running attempt made a new checkpoint
    checkpoint: int = -1
    outcome: Outcome | None = None
    output: int | None = None
    endings: list[Ending | None] = field(default_factory=list)


class QueueMachine(RuleBasedStateMachine):
    """Random web calls, workers (living, late and dead) and time, against a model of what must be true."""

    url = "sqlite+aiosqlite://"
    submitted = Bundle("submitted")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.loop = asyncio.new_event_loop()
        self.store = self.loop.run_until_complete(Store.open(self.url, lease_seconds=LEASE, clock=lambda: self.now))
        self.known: dict[str, CachedResponse] = {}
        self.written = 0

    def wait(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def is_current(self, claim: Claim) -> bool:
        told = self.known[claim.request.id]
        return told.status is Status.IN_PROGRESS and told.token == claim.token

    def end(self, told: CachedResponse, outcome: Outcome, ending: Ending | None = None) -> None:
        told.status, told.outcome = Status.COMPLETED, outcome
        if ending is not None:
            told.endings[-1] = ending

    def give_back(self, told: CachedResponse, ending: Ending) -> None:
        told.endings[-1] = ending
        told.strikes += ending is Ending.DIED and not told.advanced
        if told.cancel_requested:
            self.end(told, Outcome.CANCELLED)
        elif told.strikes >= 3:
            self.end(told, Outcome.FAILED)
        else:
            told.status = Status.IN_QUEUE

    def expire(self) -> int:
        late = [t for t in self.known.values() if t.status is Status.IN_PROGRESS and t.lease_until < self.now]
        for told in late:
            self.give_back(told, Ending.LEASE_EXPIRED)
        return len(late)

    @initialize(target=submitted)
    def begin(self) -> Any:
        return self._submit("training", Priority.NORMAL, "warm")

    @rule(
        target=submitted,
        kind=st.sampled_from(["training", "inference"]),
        priority=st.sampled_from(Priority),
        affinity=st.sampled_from(["", "warm", "cold"]),
    )
    def submit(self, kind: Any, priority: Priority, affinity: str) -> Any:
        return self._submit(kind, priority, affinity)

    def _submit(self, kind: Any, priority: Priority, affinity: str) -> str:
        new = NewRequest("e", kind, {}, priority=priority, affinity=affinity)
        request, is_new = self.wait(self.store.requests.submit(new))
        assert is_new
        assert request.id not in self.known
        self.known[request.id] = CachedResponse(request.id, kind)
        return str(request.id)

    @rule(
        target=claims,
        lane=st.sampled_from(["training", "training", "inference"]),
        worker=st.sampled_from(["w1", "w2"]),
        resident=st.sampled_from([[], ["warm"]]),
    )
    def claim(self, lane: Any, worker: str, resident: list[str]) -> Any:
        self.expire()
        claim = self.wait(self.store.leases.claim(worker, lane, resident=resident))
        waiting = [told for told in self.known.values() if told.kind == lane and told.status is Status.IN_QUEUE]
        assert (claim is None) == (not waiting)
        if claim is None:
            return multiple()
        told = self.known[claim.request.id]
        assert told in waiting  # nobody else runs it
        assert claim.token > told.token
        told.status, told.token, told.lease_until = Status.IN_PROGRESS, claim.token, self.now + LEASE
        told.attempts, told.advanced = told.attempts + 1, False
        told.endings.append(None)
        assert claim.attempt == told.attempts
        return claim

    @rule(claim=claims, checkpoint=st.none() | st.integers(0, 5))
    def heartbeat(self, claim: Claim, checkpoint: int | None) -> None:
        line = LogLine(0, self.now, "INFO", str(claim.token))
        beat = self.store.leases.heartbeat(claim, step=claim.token, total=9, checkpoint_step=checkpoint, logs=[line])
        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                self.wait(beat)
            return
        told = self.known[claim.request.id]
        assert self.wait(beat).cancel == told.cancel_requested
        told.lease_until = self.now + LEASE
        self.written += 1
        if checkpoint is not None and checkpoint > told.checkpoint:
            told.checkpoint, told.advanced, told.strikes = checkpoint, True, 0

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        write = self.store.leases.complete(claim, {"token": claim.token}, [])
        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                self.wait(write)
            return
        self.wait(write)
        told = self.known[claim.request.id]
        told.output = claim.token
        self.end(told, Outcome.OK, Ending.OK)

    @rule(claim=claims, failure=st.sampled_from([Cancelled(), InternalError("broken")]))
    def fail(self, claim: Claim, failure: Any) -> None:
        write = self.store.leases.fail(claim, failure.failure())
        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                self.wait(write)
            return
        self.wait(write)
        cancelled = isinstance(failure, Cancelled)
        outcome, ending = (Outcome.CANCELLED, Ending.CANCELLED) if cancelled else (Outcome.FAILED, Ending.FAILED)
        self.end(self.known[claim.request.id], outcome, ending)

    @rule(claim=claims, ending=st.sampled_from([Ending.DIED, Ending.DIED, Ending.KILLED]))
    def release(self, claim: Claim, ending: Ending) -> None:
        write = self.store.leases.release(claim, ending, "it ended")
        if not self.is_current(claim):
            with pytest.raises(LeaseLost):
                self.wait(write)
            return
        released = self.wait(write)
        told = self.known[claim.request.id]
        self.give_back(told, ending)
        assert (released.status, released.outcome) == (told.status, told.outcome)

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def bury(self, worker: str) -> None:
        held = self.wait(self.store.requests.list(status=Status.IN_PROGRESS, limit=1000))
        mine = [r.id for r in held if self.wait(self.store.requests.attempts(r.id))[-1].worker_id == worker]
        assert self.wait(self.store.leases.release_worker(worker, "gone")) == len(mine)
        for request_id in mine:
            self.give_back(self.known[request_id], Ending.KILLED)

    @rule(request_id=submitted)
    def cancel(self, request_id: str) -> None:
        self.wait(self.store.requests.cancel(request_id))
        told = self.known[request_id]
        if told.status is Status.IN_QUEUE:
            told.cancel_requested = True
            self.end(told, Outcome.CANCELLED)
        elif told.status is Status.IN_PROGRESS:
            told.cancel_requested = True

    @rule(request_id=submitted)
    def retry(self, request_id: str) -> None:
        self.wait(self.store.requests.retry(request_id))
        told = self.known[request_id]
        if told.status is Status.COMPLETED and told.outcome is not Outcome.OK:
            told.status, told.outcome, told.cancel_requested, told.strikes = Status.IN_QUEUE, None, False, 0

    @rule(seconds=st.sampled_from([1.0, 12.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reap(self) -> None:
        assert self.wait(self.store.leases.reap()) == self.expire()

    @rule(claim=consumes(claims))
    def forget(self, claim: Claim) -> None:
        """Its worker is gone for good; only time brings the request back."""

    @invariant()
    def all_is_as_told(self) -> None:
        stored = {request.id: request for request in self.wait(self.store.requests.list(limit=1000))}
        assert stored.keys() == self.known.keys()  # none is lost, none appeared
        for request_id, told in self.known.items():
            request = stored[request_id]
            assert (request.status, request.outcome) == (told.status, told.outcome)
            assert (request.strikes, request.attempts) == (told.strikes, told.attempts)
            assert (request.ended_at is None) == (request.outcome is None)
            assert request.output == (None if told.output is None else {"token": told.output})

    def teardown(self) -> None:
        """What only grows is looked at once, at the end: attempts, and lines of living workers only."""
        lines = 0
        for request_id, told in self.known.items():
            assert [attempt.ending for attempt in self.wait(self.store.requests.attempts(request_id))] == told.endings
            lines += len(self.wait(self.store.requests.logs(request_id)))
        assert lines == self.written
        self.wait(self.store.close())
        self.loop.close()


def _run(machine: type[QueueMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_no_order_of_events_loses_doubles_or_overwrites_a_request() -> None:
    _run(QueueMachine, 25)


def test_no_order_of_events_loses_doubles_or_overwrites_a_request_on_postgres(postgres: str, postgres_url: str) -> None:
    import psycopg

    class OnPostgres(QueueMachine):
        """The same in a database that is emptied between two runs."""

        url = postgres_url

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                with psycopg.connect(postgres, autocommit=True) as connection:
                    connection.execute("TRUNCATE requests CASCADE")

    _run(OnPostgres, 5)
