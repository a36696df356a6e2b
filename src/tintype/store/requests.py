"""Requests as the web half knows them: kept before they are answered, found again, cancelled, retried, listed.

A request's row is written in the same transaction that decides whether it is a new one, so that a resent POST can never
make two of them, and an answered id can never be lost.

What is forgotten: the input of a request whose sender asked that nothing be kept goes with its end; the result stays
long enough to be fetched. After that, or when a person finds it old, what remains is a row that says that there was
such a request, and how it ended.

Within a lane and a priority people take turns (start-time fair queueing). A new request's turn comes after its owner's
last one there, but no sooner than the turn that the lane is at: that of the first that waits for its first attempt, or,
where none does, the newest place, which no turn exceeds. So however many the others have queued, each of them passes
somebody who waits at most twice between two requests of his own, and once before his first.
"""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.catalog import Kind
from tintype.errors import BadRequest, Cancelled, Failure, IdempotencyKeyReused, Json, QueueFull
from tintype.settings import Limits
from tintype.store import files, models, schema, webhooks
from tintype.store.database import AnyRow, Database
from tintype.store.records import Attempt, Ending, LogLine, NewRequest, Outcome, Priority, Request, Status
from tintype.store.repository import Clock, Repository, finite, uninterrupted
from tintype.store.schema import cleaned

COALESCING_SECONDS = 10.0
LONGEST_LINE = 10_000  # characters
MOST_LINES = 1000  # kept of a request's log: a job that prints in a loop must not fill the disk or a poll's answer
DROPPED = f"Further lines were dropped: at most {MOST_LINES:,} are kept for a request."
FETCHING_SECONDS = 3600.0  # how long a result that is not to be kept can be fetched
FULL = "Send it again once one of yours has begun, or cancel one."
OK_CODE = 200
BATCH = 100  # requests that are erased in one transaction
PRIORITIES = (Priority.NORMAL, Priority.LOW)  # the earlier runs first; stored as an index of this

table = schema.requests
RECORD = tuple(table.c[field.name] for field in fields(Request))
_INSERT = sa.insert(table).returning(*RECORD)  # built once: that costs more than to run it
_MINE = sa.select(*schema.IN_LINE).where(table.c.id == sa.bindparam("this")).subquery()
_POSITION = sa.select(sa.func.count()).where(
    schema.WAITING, table.c.kind == sa.bindparam("lane"), sa.tuple_(*schema.IN_LINE) < sa.tuple_(*_MINE.c)
)
_COLUMNS = tuple(field.name for field in fields(NewRequest) if field.name in table.c)


class Requests(Repository):
    """Keeps requests, and forgets what they held when their time is over."""

    def __init__(self, database: Database, clock: Clock, limits: Limits | None = None) -> None:
        super().__init__(database, clock, limits)
        self._standing = _standing(self._limits)

    @uninterrupted
    async def submit(self, new: NewRequest) -> tuple[Request, bool]:
        """Keeps a request durably; returns it and whether it is new (False: an idempotency key or, within 10 s and
        while unfinished, an identical training request led to an existing one). Raises QueueFull, LimitReached, and
        IdempotencyKeyReused for a key that came with another path, query or body before."""
        async with self._database.write() as connection:
            if new.max_queue_length is not None:
                await self._database.take_turns(connection, f"length {new.endpoint_id}")
            if new.idempotency_key is not None:
                await self._database.take_turns(connection, f"idempotency {new.key_id} {new.idempotency_key}")
            if new.coalesce_key is not None:
                await self._database.take_turns(connection, f"coalesce {new.coalesce_key}")
            earlier = await self._earlier(connection, new)
            if earlier is not None:
                if earlier.sync and not new.sync:  # whoever queued it may come for the result at any time
                    earlier = await change(connection, earlier.id, sync=False)
                return earlier, False
            if new.max_queue_length is not None:
                await _refuse_if_full(connection, new.endpoint_id, new.max_queue_length)
            request = await self._insert(connection, new)
            if new.notes:
                lines = [LogLine(0, request.created_at, "WARN", note) for note in new.notes]
                await append_logs(connection, request.id, lines)
            if new.file_ids:
                mine = schema.files.c.id.in_(new.file_ids)
                await connection.execute(sa.update(schema.files).where(mine).values(request_id=request.id))
            return request, True

    async def get(self, request_id: str) -> Request | None:
        """Finds a request as it stands now."""
        rows = await self._database.fetch(sa.select(*RECORD).where(table.c.id == request_id))
        return as_request(rows[0]) if rows else None

    async def unfinished_runs(self) -> builtins.list[tuple[str, str]]:
        """Lists id and digest of every sync run that has not ended."""
        query = sa.select(table.c.id, table.c.digest).where(schema.UNFINISHED, table.c.sync)
        return [(row.id, row.digest or "") for row in await self._database.fetch(query)]

    async def version(self, request_id: str) -> int | None:
        """Reads only the version: one indexed read, for cached polls."""
        row = await self._database.look_up("SELECT version FROM requests WHERE id = :key", cleaned(request_id))
        return None if row is None else int(row[0])

    async def position(self, request: Request) -> int:
        """Counts the requests of its kind that are to run before it; those of others may still come between."""
        if request.status is not Status.IN_QUEUE:
            return 0
        [(count,)] = await self._database.fetch(_POSITION.params(this=request.id, lane=request.kind))
        return int(count)

    async def logs(self, request_id: str, *, after: int = -1) -> builtins.list[LogLine]:
        """Lists lines numbered above `after`, oldest first."""
        lines = schema.logs.c
        query = sa.select(lines.number, lines.at, lines.level, lines.message, lines.source).order_by(lines.number)
        query = query.where(lines.request_id == request_id, lines.number > after)
        return [LogLine(*row) for row in await self._database.fetch(query)]

    async def attempts(self, request_id: str) -> builtins.list[Attempt]:
        """Lists every try at a request, oldest first."""
        tries = schema.attempts
        query = sa.select(tries).where(tries.c.request_id == request_id).order_by(tries.c.number)
        rows = await self._database.fetch(query)
        return [Attempt(**{**row._mapping, "ending": row.ending and Ending(row.ending)}) for row in rows]

    @uninterrupted
    async def cancel(self, request_id: str) -> Request | None:
        """Ends a queued request as cancelled, sets the flag of a running one; returns it, None for an unknown one."""
        async with self._database.write() as connection:
            request = await locked(connection, request_id)
            if request is None or request.status is Status.COMPLETED or request.cancel_requested:
                return request
            if request.status is Status.IN_QUEUE:
                return await finish(connection, request_id, self._now(), Cancelled().failure(), cancel_requested=True)
            return await change(connection, request_id, cancel_requested=True)

    @uninterrupted
    async def stop(self, request_id: str) -> Request | None:
        """Asks a running training to end at its next step with what it has; returns it as it stands, None for an
        unknown one. Raises BadRequest for one that is no training or has not begun."""
        async with self._database.write() as connection:
            request = await locked(connection, request_id)
            if request is None or request.status is Status.COMPLETED or request.stop_requested:
                return request
            if request.kind != "training":
                raise BadRequest("Only a training can be stopped and kept.", remedy="Cancel this one.")
            if request.status is Status.IN_QUEUE and not request.step:
                raise BadRequest("This training has not begun: there is nothing to keep.", remedy="Cancel it.")
            return await change(connection, request_id, stop_requested=True)

    async def cancel_all(self, key_ids: Collection[str]) -> int:
        """Cancels what was sent with these keys and has not ended. Returns how many."""
        query = sa.select(table.c.id).where(schema.UNFINISHED, table.c.key_id.in_(key_ids))
        ids = [row.id for row in await self._database.fetch(query)]
        for request_id in ids:
            await self.cancel(request_id)
        return len(ids)

    @uninterrupted
    async def retry(self, request_id: str) -> Request | None:
        """Puts a failed or cancelled request back in the queue under its id (from its last checkpoint), at its old
        place and without a start deadline. Any other is returned unchanged. Raises BadRequest for one whose input was
        not to be kept."""
        async with self._database.write() as connection:
            request = await locked(connection, request_id)
            if request is None or request.status is not Status.COMPLETED or request.outcome is Outcome.OK:
                return request
            if not request.store_io or request.is_erased:
                raise BadRequest(
                    "The input of this request was not kept (X-Fal-Store-IO: 0, sync_mode, or `tintype gc`).",
                    remedy="Send it again.",
                )
            unended = {"outcome": None, "failure": None, "ended_at": None, "start_deadline": None, "status_code": None}
            afresh = {
                "cancel_requested": False,
                "stop_requested": False,
                "strikes": 0,
                "overtaken": 0,
                "overtaken_since": None,
            }
            return await change(connection, request_id, status=Status.IN_QUEUE, **unended, **afresh)

    async def list(
        self,
        *,
        status: Status | None = None,
        outcome: Outcome | None = None,
        endpoint_id: str | None = None,
        kind: Kind | None = None,
        owner: str = "",
        limit: int = 50,
        before: float | None = None,
    ) -> builtins.list[Request]:
        """Lists requests, newest first; `before` is the `created_at` of the last one seen."""
        # Whose a request is stands in it, so that the newest are read in their order: by its key all would be sorted.
        query = sa.select(*RECORD).where(*_theirs(owner)).limit(limit)
        query = query.order_by(table.c.created_at.desc(), table.c.place.desc())
        wanted = {"status": status, "outcome": outcome, "endpoint_id": endpoint_id, "kind": kind}
        query = query.where(*(table.c[name] == value for name, value in wanted.items() if value is not None))
        if before is not None:
            query = query.where(table.c.created_at < before)
        return [as_request(row) for row in await self._database.fetch(query)]

    async def unfinished(self, *, owner: str = "", limit: int = 1000) -> builtins.list[Request]:
        """Lists what runs or waits, newest first; its cost follows the work at hand, not the history."""
        named = table.c.status.in_((Status.IN_QUEUE, Status.IN_PROGRESS))  # for the index of what has not ended
        query = sa.select(*RECORD).where(named, schema.UNFINISHED, *_theirs(owner)).limit(limit)
        found = [as_request(row) for row in await self._database.fetch(query)]
        return sorted(found, key=lambda request: -request.created_at)

    @uninterrupted
    async def erase_unstored(self) -> int:
        """Erases output, failure and log of requests that ended an hour ago and were not to be kept. Returns how
        many; their files expire as the sender asked."""
        async with self._database.write() as connection:
            ids = await _erase(connection, schema.UNSTORED, table.c.ended_at < self._now() - FETCHING_SECONDS)
        return len(ids)

    @uninterrupted
    async def erase_old(self, older_than: float) -> int:
        """Erases input, output, failure and log of requests that ended that many seconds ago, and lets the files of
        their results expire; at most BATCH of them. Returns how many. What belongs to a custom model stays with it."""
        no_model = sa.or_(table.c.kind != "training", table.c.model_id.is_(None))
        async with self._database.write() as connection:
            ids = await _erase(connection, table.c.ended_at < self._now() - older_than, no_model)
            theirs = schema.files.c.request_id.in_(ids)
            await connection.execute(sa.update(schema.files).where(theirs).values(expires_at=self._now()))
        return len(ids)

    async def _earlier(self, connection: AsyncConnection, new: NewRequest) -> Request | None:
        """Finds the request that this one is a repetition of."""
        conditions: builtins.list[Sequence[sa.ColumnElement[bool]]] = []
        if new.idempotency_key is not None:
            conditions.append((table.c.key_id == new.key_id, table.c.idempotency_key == new.idempotency_key))
        if new.coalesce_key is not None:
            recent = table.c.created_at >= self._now() - COALESCING_SECONDS
            # One that is being cancelled will give no result: whoever asks again wants a new one.
            wanted = table.c.cancel_requested.is_(False)
            conditions.append((schema.UNFINISHED, table.c.coalesce_key == new.coalesce_key, recent, wanted))
        for condition in conditions:
            query = sa.select(*RECORD).where(*condition).order_by(table.c.place.desc()).limit(1)
            row = (await connection.execute(query)).one_or_none()
            if row is not None:
                earlier = as_request(row)
                await _refuse_another_use(connection, earlier, new)
                return earlier
        return None

    async def _turn(self, connection: AsyncConnection, given: Mapping[str, Any]) -> int:
        """Finds a new request's turn. Raises LimitReached for a person who has as much here as one may have."""
        await self._database.take_turns(connection, f"owner {given['owner']}")
        standing = (await connection.execute(self._standing, given)).one()
        last, first, newest, waiting, trainings, stored = standing
        self._limits.check("waiting_requests", waiting, FULL)
        if given["kind"] == "training":
            self._limits.check("waiting_trainings", trainings, FULL)
        self._limits.check("stored_bytes", stored, files.NO_ROOM)
        return int(max(newest if first is None else first, 0 if last is None else last + 1))

    async def _insert(self, connection: AsyncConnection, new: NewRequest) -> Request:
        given = {name: getattr(new, name) for name in _COLUMNS}
        given |= {"id": str(uuid.uuid4()), "status": Status.IN_QUEUE, "created_at": self._now()}
        given |= {"owner": new.owner or new.key_id, "priority": PRIORITIES.index(new.priority)}
        given["turn"] = await self._turn(connection, given)
        if new.makes_model is not None:
            given["model_id"] = models.new_id()
        request = as_request((await connection.execute(_INSERT, given)).one())
        if new.makes_model is not None:
            await models.register(self._database, connection, new.makes_model, request)
        return request


def _theirs(owner: str) -> Sequence[sa.ColumnElement[bool]]:
    """Makes the condition of a person's requests; without an owner all of them are meant."""
    return [table.c.owner.in_(("", owner))] if owner else []


def may_run(lane: Kind | sa.BindParameter[str], most_running: int) -> Sequence[sa.ColumnElement[bool]]:
    """Makes the conditions of what waits in a lane and is not of somebody who has as much running there as one may."""
    waiting = [schema.WAITING, table.c.kind == lane]
    if most_running:
        running = sa.select(table.c.owner).where(schema.RUNNING, schema.UNFINISHED, table.c.kind == lane)
        full = running.group_by(table.c.owner).having(sa.func.count() >= most_running)
        waiting.append(table.c.owner.not_in(full))
    return waiting


def _standing(limits: Limits) -> sa.Select[*tuple[Any, ...]]:
    """Makes the query for what a new request's turn follows from (its owner's last, the first that may run, the newest
    place), and for how many requests and trainings of its owner wait and how much is kept, where that is limited."""
    named = ("owner", "kind", "priority", "key_id")
    owner, kind, priority, key_id = (sa.bindparam(name, type_=table.c[name].type) for name in named)
    same = table.c.priority == priority
    his = sa.select(sa.func.count()).where(schema.WAITING, schema.UNFINISHED, table.c.owner == owner)
    last = sa.select(table.c.turn).where(table.c.owner == owner, table.c.kind == kind, same, schema.TOOK_ITS_TURN)
    unlimited = sa.select(sa.literal(0))
    parts = (
        last.order_by(table.c.turn.desc()).limit(1),
        sa.select(sa.func.min(table.c.turn)).where(
            *may_run(kind, limits.running_requests), same, table.c.started_at.is_(None)
        ),
        sa.select(sa.func.coalesce(sa.func.max(table.c.place), 0)),
        his if limits.waiting_requests else unlimited,
        his.where(table.c.kind == "training") if limits.waiting_trainings else unlimited,
        files.stored_bytes(key_id) if limits.stored_bytes else unlimited,
    )
    return sa.select(*(part.scalar_subquery() for part in parts))


async def locked(connection: AsyncConnection, request_id: str) -> Request | None:
    """Reads a request, held against other writers until the transaction ends."""
    query = sa.select(*RECORD).where(table.c.id == request_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else as_request(row)


async def change(connection: AsyncConnection, request_id: str, **values: Any) -> Request:
    """Writes columns of a request and raises its version."""
    statement = sa.update(table).where(table.c.id == request_id).values(version=table.c.version + 1, **values)
    request = as_request((await connection.execute(statement.returning(*RECORD))).one())
    await models.sync_status_with_request(connection, request)
    return request


async def finish(
    connection: AsyncConnection,
    request_id: str,
    at: float,
    failure: Failure | None,
    *,
    output: Json | None = None,
    **values: Any,
) -> Request:
    """Ends a request: well without a failure, as cancelled with that of errors.Cancelled, else as failed. Its webhook
    goes into the webhooks."""
    outcome = outcome_of(failure)
    stored = finite(output)
    came_of_it = {"outcome": outcome, "output": stored, "failure": None if failure is None else failure.to_json()}
    came_of_it["status_code"] = OK_CODE if failure is None else failure.status
    ended = {"status": Status.COMPLETED, "ended_at": at, "worker_id": None, "lease_until": None}
    request = await change(connection, request_id, **came_of_it, **ended, **values)
    await webhooks.enqueue_webhook(connection, request, encodable=stored == output)
    return request if request.store_io else await forget_input(connection, request, at)


def outcome_of(failure: Failure | None) -> Outcome:
    """Tells how a request ends with a failure, or without one."""
    if failure is None:
        return Outcome.OK
    return Outcome.CANCELLED if failure.error_type == Cancelled.type else Outcome.FAILED


async def forget_input(connection: AsyncConnection, request: Request, at: float) -> Request:
    """Forgets what an ended request was given; files made from its body (they are older than it) expire `at` once."""
    files = schema.files.c
    given = (files.request_id == request.id, files.created_at <= request.created_at)
    await connection.execute(sa.update(schema.files).where(*given).values(expires_at=at))
    statement = sa.update(table).where(table.c.id == request.id).values(input={})
    return as_request((await connection.execute(statement.returning(*RECORD))).one())


async def _refuse_another_use(connection: AsyncConnection, earlier: Request, new: NewRequest) -> None:
    """Raises IdempotencyKeyReused if a key of this sender's now stands for another request than before."""
    if new.idempotency_key is None or new.digest is None:
        return
    query = sa.select(table.c.digest).where(table.c.id == earlier.id, table.c.idempotency_key == new.idempotency_key)
    digest = (await connection.execute(query)).scalar()
    if digest is not None and digest != new.digest:
        raise IdempotencyKeyReused(
            f"This idempotency key was used before, for request {earlier.id}, which was not the same.",
            remedy="Send a new key with every new request, and the old one only with the same URL and body.",
        )


async def _refuse_if_full(connection: AsyncConnection, endpoint_id: str, most: int) -> None:
    query = sa.select(sa.func.count()).where(schema.WAITING, table.c.endpoint_id == endpoint_id)
    waiting = (await connection.execute(query)).scalar_one()
    if waiting > most:
        raise QueueFull(
            f"{waiting} requests for {endpoint_id} are waiting, and at most {most} were to be accepted.",
            remedy="Send it again later, or with a larger fal_max_queue_length.",
        )


def as_request(row: AnyRow) -> Request:
    """Makes the record of a row that has RECORD's columns (and perhaps others)."""
    stored: dict[str, Any] = {column.name: row._mapping[column] for column in RECORD}
    stored["status"] = Status(stored["status"])
    stored["outcome"] = stored["outcome"] and Outcome(stored["outcome"])
    stored["priority"] = PRIORITIES[stored["priority"]]
    stored["failure"] = stored["failure"] and Failure.from_json(stored["failure"])
    return Request(**stored)


async def append_logs(connection: AsyncConnection, request_id: str, lines: Sequence[LogLine]) -> bool:
    """Numbers and keeps lines of a request that the transaction holds; returns whether any was added."""
    if not lines:
        return False
    first = (await connection.execute(sa.select(table.c.log_count).where(table.c.id == request_id))).scalar_one()
    rows = []
    for number, line in enumerate(islice(lines, max(MOST_LINES - first, 0)), first):
        message = cleaned(line.message)[:LONGEST_LINE] if number < MOST_LINES - 1 else DROPPED
        rows.append({"request_id": request_id, **asdict(replace(line, number=number, message=message))})
    if rows:
        await connection.execute(sa.insert(schema.logs), rows)
        await connection.execute(sa.update(table).where(table.c.id == request_id).values(log_count=first + len(rows)))
    return bool(rows)


async def _erase(connection: AsyncConnection, *which: sa.ColumnElement[bool]) -> Sequence[str]:
    told = sa.or_(table.c.output.is_not(None), table.c.failure.is_not(None))
    query = sa.select(table.c.id).where(*which, told, table.c.status == Status.COMPLETED).limit(BATCH)
    ids = (await connection.execute(query)).scalars().all()
    blank: Json = {"input": {}, "output": None, "failure": None, "version": table.c.version + 1, "log_count": 0}
    await connection.execute(sa.update(table).where(table.c.id.in_(ids)).values(blank))
    await connection.execute(sa.delete(schema.logs).where(schema.logs.c.request_id.in_(ids)))
    sent = sa.update(schema.deliveries).where(schema.deliveries.c.request_id.in_(ids), ~schema.UNDELIVERED)
    await connection.execute(sent.values(message=None))
    return ids
