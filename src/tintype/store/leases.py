"""Work under leases: a request is run by one worker at a time, and only the one that counts may write.

A claim takes a lease and a fencing token that grows with every claim of the request. Every later write names the token
in its condition, so that a worker that was thought dead and wakes up gets LeaseLost instead of overwriting the work of
its successor. A lease that has run out is good until somebody takes it back. Times are those of the process that asks:
several machines must keep their clocks together to well within a lease.

Each transaction locks one request. The one that touches several (a claim, which may overtake) takes turns per lane, and
waits for nobody who could be waiting for it; so there are no deadlocks on Postgres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.catalog import Kind
from tintype.errors import Cancelled, Failure, Json, LeaseLost, OutOfMemory, StartDeadlinePassed, WorkerDied
from tintype.settings import Limits
from tintype.store import files, models, schema
from tintype.store.database import AnyRow, Database
from tintype.store.records import RETRIED, Beat, Claim, Ending, LogLine, Request, Status, StoredFile
from tintype.store.repository import Clock, Repository, finite, uninterrupted
from tintype.store.requests import RECORD, append_logs, as_request, change, finish, may_run, outcome_of
from tintype.store.schema import cleaned

MOST_STRIKES = 3
STRIKES = (Ending.DIED, Ending.OUT_OF_MEMORY)
WAITS_FOR = "waits_for"  # in the progress of a request: the one that has the memory it waits for
MOST_OVERTAKEN = 8  # times
LONGEST_OVERTAKEN = 30.0  # seconds since the first time
HOLDERS_SECONDS = 1.0  # how long a new request is left to a lane that holds what it would like to find
OVERTAKING_WINDOW = 64  # how far down the lane a resident request is looked for

table = schema.requests


class Leases(Repository):
    """Gives out work, and takes in what became of it."""

    def __init__(self, database: Database, clock: Clock, lease_seconds: float, limits: Limits | None = None) -> None:
        super().__init__(database, clock, limits)
        self._lease_seconds = lease_seconds

    @uninterrupted
    async def claim(self, worker_id: str, lane: Kind, *, resident: Sequence[str] = ()) -> Claim | None:
        """Takes the next request of a lane under a lease with a new fencing token.

        Normal before low; within a priority people take turns (see requests.py), except that a request whose affinity
        is in `resident` may overtake an earlier one at most 8 times or 30 seconds, and that a new one is left for a
        second to an idle lane of another device that holds its affinity. Requests past their start deadline are ended
        as StartDeadlinePassed on the way. Expired leases are taken back first.
        """
        due, waiting = await self._look(lane)
        if due:
            await self.reap()
            _, waiting = await self._look(lane)
        elsewhere = await self._resident_elsewhere(worker_id, lane) - {*resident} if waiting else frozenset()
        while waiting:  # an idle lane is only read: supervisors poll it a few times a second
            async with self._database.write() as connection:
                line = await self._line(connection, lane, OVERTAKING_WINDOW if resident or elsewhere else 1)
                recent = self._now() - HOLDERS_SECONDS
                line = [row for row in line if row.affinity not in elsewhere or row.created_at < recent]
                index = overtaker(line, frozenset(resident), self._now())
                if index is None:
                    return None
                claim = await self._take(connection, line[index].id, worker_id)
                if claim is not None:
                    await self._count_overtaking(connection, [row.id for row in line[:index]])
                    return claim
        return None

    @uninterrupted
    async def heartbeat(
        self,
        claim: Claim,
        *,
        step: int = 0,
        total: int = 0,
        metrics: Json | None = None,
        checkpoint_step: int | None = None,
        logs: Sequence[LogLine] = (),
    ) -> Beat:
        """Renews the lease; stores progress, the step of a new checkpoint and new log lines (their `number` is
        ignored; at most 1,000 lines a request are kept, the last one then says so). Without step, total or metrics
        those stay as they were. Raises LeaseLost."""
        async with self._database.write() as connection:
            held = await _held(connection, claim)
            seen: dict[str, Any] = {"step": step, "total_steps": total} if step or total else {}
            if metrics is not None:
                seen["progress"] = finite(metrics)
            kept: dict[str, Any] = {"lease_until": self._now() + self._lease_seconds}
            tried: dict[str, Any] = {"last_step": step} if step else {}
            newest = -1 if held.checkpoint_step is None else held.checkpoint_step
            if checkpoint_step is not None and checkpoint_step > newest:
                kept |= {"checkpoint_step": checkpoint_step, "strikes": 0}
                tried["checkpoint_step"] = checkpoint_step
            visible = await append_logs(connection, claim.request.id, logs)
            visible = visible or any(getattr(held, name) != value for name, value in seen.items())
            statement = sa.update(table).where(table.c.id == claim.request.id)
            version = table.c.version + int(visible)
            await connection.execute(statement.values(version=version, **kept, **seen))
            if tried:
                await connection.execute(_attempt(claim).values(tried))
            return Beat(cancel=held.cancel_requested, stop=held.stop_requested)

    @uninterrupted
    async def complete(
        self,
        claim: Claim,
        output: Json,
        files: Sequence[StoredFile],
        *,
        logs: Sequence[LogLine] = (),
        watt_hours: float | None = None,
    ) -> None:
        """Stores result, files, log and what the attempt took in one transaction. Raises LeaseLost."""
        await self._end(claim, None, logs, watt_hours, output=output, stored=files)

    @uninterrupted
    async def fail(
        self, claim: Claim, failure: Failure, *, logs: Sequence[LogLine] = (), watt_hours: float | None = None
    ) -> None:
        """Ends the request with an error (Cancelled's failure: outcome cancelled). Raises LeaseLost."""
        await self._end(claim, failure, logs, watt_hours)

    @uninterrupted
    async def release(
        self, claim: Claim, ending: Ending, cause: str, *, watt_hours: float | None = None, waits_for: str | None = None
    ) -> Request:
        """Gives a request back after a death or a drain, or for want of memory: queued again at its old place, or ended
        when cancel was asked for, or, after three DIED or OUT_OF_MEMORY in a row without a new checkpoint, ended as
        WorkerDied or OutOfMemory with the cause. The others neither count nor break the row. Where the sender bounded
        the retries, every ending of the kind counts, a row or not, and only they do. `waits_for` is the request that
        has the memory. Raises LeaseLost."""
        async with self._database.write() as connection:
            held = await _held(connection, claim)
            return await self._give_back(connection, claim, held, ending, cause, watt_hours, waits_for)

    async def is_waiting(self, lane: Kind) -> bool:
        """Tells whether a request waits in a lane that may run."""
        return (await self._look(lane))[1]

    @uninterrupted
    async def release_worker(self, worker_id: str, cause: str) -> int:
        """Takes back at once every lease a dead worker held (Ending.KILLED). Returns how many."""
        return await self._take_back(table.c.worker_id == worker_id, Ending.KILLED, cause)

    @uninterrupted
    async def reap(self) -> int:
        """Takes back expired leases and ends requests past their start deadline. Returns how many changed."""
        expired = table.c.lease_until < self._now()
        changed = await self._take_back(expired, Ending.LEASE_EXPIRED, "No heartbeat within the lease.")
        late = sa.select(table.c.id).where(schema.HAS_START_DEADLINE, table.c.start_deadline < self._now())
        for (request_id,) in await self._database.fetch(late):
            async with self._database.write() as connection:
                still = late.where(table.c.id == request_id).with_for_update(skip_locked=True)
                if (await connection.execute(still)).scalar() is not None:
                    failure = StartDeadlinePassed(
                        "The request was still waiting when its time to start ran out.",
                        remedy="Send it again with a longer X-Fal-Request-Timeout, or without one.",
                    ).failure()
                    await finish(connection, request_id, self._now(), failure)
                    changed += 1
        return changed

    async def _look(self, lane: Kind) -> tuple[bool, bool]:
        """Tells whether something is due for `reap`, and whether something waits in the lane; one read."""
        expired = sa.exists().where(schema.RUNNING, table.c.lease_until < self._now())
        late = sa.exists().where(schema.HAS_START_DEADLINE, table.c.start_deadline < self._now())
        waiting = sa.exists().where(*may_run(lane, self._limits.running_requests))
        [(due, has_waiting)] = await self._database.fetch(sa.select(sa.or_(expired, late), waiting))
        return bool(due), bool(has_waiting)

    async def _resident_elsewhere(self, worker_id: str, lane: Kind) -> frozenset[str]:
        """Tells what idle lanes of other devices hold in memory, as far as they have said so lately."""
        workers = schema.workers.c
        heard = workers.seen_at > self._now() - self._lease_seconds
        query = sa.select(workers.resident).where(workers.lane == lane, workers.id != worker_id)
        rows = await self._database.fetch(query.where(workers.state == "idle", heard))
        return frozenset(affinity for row in rows for affinity in row.resident if affinity)

    async def _line(self, connection: AsyncConnection, lane: Kind, length: int) -> Sequence[AnyRow]:
        """Reads the first requests of a lane that may run, in order. Callers take turns."""
        await self._database.take_turns(connection, f"lane {lane}")
        names = ("id", "priority", "affinity", "created_at", "overtaken", "overtaken_since")
        columns = [table.c[name] for name in names]
        query = sa.select(*columns).where(*may_run(lane, self._limits.running_requests))
        return (await connection.execute(query.order_by(*schema.IN_LINE).limit(length))).all()

    async def _count_overtaking(self, connection: AsyncConnection, overtaken: Sequence[str]) -> None:
        if not overtaken:
            return
        since = sa.func.coalesce(table.c.overtaken_since, self._now())
        statement = sa.update(table).where(table.c.id.in_(overtaken), schema.WAITING)
        await connection.execute(statement.values(overtaken=table.c.overtaken + 1, overtaken_since=since))

    async def _take(self, connection: AsyncConnection, request_id: str, worker_id: str) -> Claim | None:
        """Takes the lease on a request, unless another worker was faster."""
        now = self._now()
        lease = {"token": table.c.token + 1, "worker_id": worker_id, "lease_until": now + self._lease_seconds}
        begun = {"attempts": table.c.attempts + 1, "started_at": sa.func.coalesce(table.c.started_at, now)}
        statement = sa.update(table).where(table.c.id == request_id, schema.WAITING)
        statement = statement.values(status=Status.IN_PROGRESS, version=table.c.version + 1, **lease, **begun)
        row = (await connection.execute(statement.returning(*RECORD, table.c.token))).one_or_none()
        if row is None:
            return None
        request = as_request(row)
        await models.sync_status_with_request(connection, request)
        model = await models.model_of_request(connection, request)
        claim = Claim(request, token=row.token, attempt=request.attempts, worker_id=worker_id, model=model)
        attempt = {"request_id": request_id, "number": claim.attempt, "token": claim.token, "worker_id": worker_id}
        await connection.execute(sa.insert(schema.attempts).values(started_at=now, **attempt))
        return claim

    async def _end(
        self,
        claim: Claim,
        failure: Failure | None,
        logs: Sequence[LogLine],
        watt_hours: float | None,
        output: Json | None = None,
        stored: Sequence[StoredFile] = (),
    ) -> None:
        async with self._database.write() as connection:
            await _held(connection, claim)
            await append_logs(connection, claim.request.id, logs)
            await files.insert(connection, await self._lasting(connection, claim, stored), claim.request)
            ending = Ending(str(outcome_of(failure)))  # a request's outcomes are endings of its last attempt
            tried = await self._end_attempt(connection, claim, ending, "")
            took = _took(tried, watt_hours)
            await finish(connection, claim.request.id, self._now(), failure, output=output, **took)

    async def _end_attempt(self, connection: AsyncConnection, claim: Claim, ending: Ending, cause: str) -> AnyRow:
        statement = _attempt(claim).values(ended_at=self._now(), ending=ending, cause=cause)
        tried: AnyRow = (await connection.execute(statement.returning(schema.attempts))).one()
        return tried

    async def _lasting(
        self, connection: AsyncConnection, claim: Claim, stored: Sequence[StoredFile]
    ) -> Sequence[StoredFile]:
        """Gives the files of a result as its sender wished them: the end counted from now, unless theirs is sooner, and
        who may read them. Those of a custom model last as long as it does."""
        columns = (schema.requests.c.file_lifetime, schema.requests.c.file_acl)
        query = sa.select(*columns).where(schema.requests.c.id == claim.request.id)
        wished = (await connection.execute(query)).one() if stored else None
        if wished is None:
            return stored
        lifetime = wished.file_lifetime
        if claim.request.kind == "training" and claim.request.model_id is not None:
            lifetime = None
        ends = None if lifetime is None else self._now() + lifetime
        return [
            replace(file, expires_at=min(filter(None, (file.expires_at, ends)), default=None), acl=wished.file_acl)
            for file in stored
        ]

    async def _give_back(
        self,
        connection: AsyncConnection,
        claim: Claim,
        held: AnyRow,
        ending: Ending,
        cause: str,
        watt_hours: float | None = None,
        waits_for: str | None = None,
    ) -> Request:
        cause = cleaned(cause)
        tried = await self._end_attempt(connection, claim, ending, cause)
        strikes = held.strikes + (ending in STRIKES and tried.checkpoint_step is None)
        took = _took(tried, watt_hours)
        failure: Failure | None = None
        if held.cancel_requested:
            failure = Cancelled().failure()
        elif how := await _used_up(connection, claim, held, ending, strikes):
            kind = OutOfMemory if ending is Ending.OUT_OF_MEMORY else WorkerDied
            failure = kind(
                f"{how} Last cause: {cause}",
                remedy="Retry it once the cause is gone; it goes on from its last checkpoint, if it has one.",
            ).failure()
        if failure is not None:
            return await finish(connection, claim.request.id, self._now(), failure, strikes=strikes, **took)
        back = {"status": Status.IN_QUEUE, "worker_id": None, "lease_until": None, "strikes": strikes}
        if ending is Ending.WAITED:
            kept = {name: value for name, value in (held.progress or {}).items() if name not in ("eta", WAITS_FOR)}
            back["progress"] = {**kept, WAITS_FOR: waits_for} if waits_for else kept
            if not await _has_begun(connection, claim, held):
                back["started_at"] = None  # its time to start still runs
        return await change(connection, claim.request.id, **back, **took)

    async def _take_back(self, which: sa.ColumnElement[bool], ending: Ending, cause: str) -> int:
        """Releases every running request that fits; one transaction each, so that none waits for the others."""
        query = sa.select(*RECORD, table.c.token, table.c.worker_id).where(schema.RUNNING, which)
        changed = 0
        for row in await self._database.fetch(query):
            request = as_request(row)
            claim = Claim(request, row.token, request.attempts, row.worker_id)
            async with self._database.write() as connection:
                try:
                    held = await _held(connection, claim, which)
                except LeaseLost:  # somebody else took it back, or its worker has spoken meanwhile
                    continue
                await self._give_back(connection, claim, held, ending, cause)
                changed += 1
        return changed


def overtaker(line: Sequence[AnyRow], resident: frozenset[str], now: float) -> int | None:
    """Chooses which of the waiting (in their order) runs next: the first resident one that only passes requests of its
    own priority that may still be overtaken, else the first."""
    for index, row in enumerate(line):
        if row.priority != line[0].priority:
            break
        if row.affinity in resident:
            return index
        waited = 0.0 if row.overtaken_since is None else now - row.overtaken_since
        if row.overtaken >= MOST_OVERTAKEN or waited > LONGEST_OVERTAKEN:
            break
    return 0 if line else None


async def _held(connection: AsyncConnection, claim: Claim, *also: sa.ColumnElement[bool]) -> AnyRow:
    """Reads the lease's row, held until the transaction ends. Raises LeaseLost if the token is not the current one."""
    asked = ("cancel_requested", "stop_requested", "retries")
    columns = (*asked, "strikes", "checkpoint_step", "step", "total_steps", "progress")
    query = sa.select(*(table.c[name] for name in columns)).where(
        table.c.id == claim.request.id, schema.RUNNING, table.c.token == claim.token, *also
    )
    row = (await connection.execute(query.with_for_update())).one_or_none()
    if row is None:
        raise LeaseLost(f"Attempt {claim.attempt} at request {claim.request.id} is no longer the one that counts.")
    return row


async def _used_up(connection: AsyncConnection, claim: Claim, held: AnyRow, ending: Ending, strikes: int) -> str | None:
    """Tells why there is to be no further attempt; None if there is."""
    bounded = next((name for name in held.retries or {} if ending in RETRIED[name]), None)
    if bounded is None:
        if strikes < MOST_STRIKES:
            return None
        if ending is Ending.OUT_OF_MEMORY:
            return f"A device's memory ran out in {strikes} attempts in a row."
        return f"The compute process died {strikes} times in a row without a new checkpoint."
    tries = schema.attempts.c
    same = (tries.request_id == claim.request.id, tries.ending.in_(RETRIED[bounded]))
    ended = (await connection.execute(sa.select(sa.func.count()).where(*same))).scalar_one()
    if ended <= held.retries[bounded]:
        return None
    return f"{ended} attempts ended with a {bounded}, and {held.retries[bounded]} retries were asked for."


async def _has_begun(connection: AsyncConnection, claim: Claim, held: AnyRow) -> bool:
    """Tells whether any attempt at a request has done more than wait for memory."""
    tries = schema.attempts.c
    others = sa.select(sa.func.count()).where(tries.request_id == claim.request.id, tries.ending != Ending.WAITED)
    return held.step > 0 or (await connection.execute(others)).scalar_one() > 0


def _took(tried: AnyRow, watt_hours: float | None) -> dict[str, Any]:
    """Makes the columns of a request that an attempt, just ended, adds to."""
    took: dict[str, Any] = {"device_seconds": table.c.device_seconds + max(0.0, tried.ended_at - tried.started_at)}
    if watt_hours is not None:
        took["watt_hours"] = sa.func.coalesce(table.c.watt_hours, 0.0) + watt_hours
    return took


def _attempt(claim: Claim) -> sa.Update:
    tries = schema.attempts
    return sa.update(tries).where(tries.c.request_id == claim.request.id, tries.c.number == claim.attempt)
