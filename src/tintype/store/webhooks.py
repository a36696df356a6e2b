"""Webhooks on their way out: written in the transaction that ends a request, gone only when somebody took them in.

What is to be sent is kept as it was when the request ended, so that every try, and every replay, says the same. Whoever
delivers claims under a lease; one that was lost with its process is tried again when the lease has run out. So a
receiver may hear twice (it tells by the request id), but never nothing.

Receivers keep the published keys for up to a day. So a new key is published a day before it signs, and an old one stays
published for a day after its last signature. They lie in the database: every web process signs with the same.
"""

from __future__ import annotations

import builtins
import secrets as random
import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.errors import BadRequest, Json, NotFound
from tintype.store import schema
from tintype.store.database import AnyRow
from tintype.store.records import Delivery, DeliveryState, Outcome, Request, SigningKey
from tintype.store.repository import Repository, uninterrupted
from tintype.store.schema import cleaned

MOST_TRIES = 31
FIRST_TRY_SECONDS = 15.0  # how long the first try may take
LATER_TRY_SECONDS = 120.0  # and each later one
LEASE_MARGIN_SECONDS = 15.0  # beyond the time of a try, until it counts as lost
LONGEST_WAIT = 4 * 3600.0  # between two tries
SEED_BYTES = 32  # of an ED25519 private key
CACHED_SECONDS = 24 * 3600.0  # how long receivers keep the published keys
UNENCODABLE = "The output holds numbers that JSON has no word for; fetch the result to see the rest."
_LONGEST_ANSWER = 500  # characters kept of what a try came to

table = schema.deliveries
RECORD = tuple(table.c[field.name] for field in fields(Delivery))
_EVERY_KEY = sa.select(schema.signing_keys).order_by(schema.signing_keys.c.created_at, schema.signing_keys.c.id)


class Webhooks(Repository):
    """Keeps what is to be sent, and the keys it is signed with."""

    @uninterrupted
    async def claim(self, limit: int, *, busy: Collection[str] = ()) -> builtins.list[Delivery]:
        """Takes what is due under a lease, the longest overdue first; nothing for the targets that are `busy`."""
        now = self._now()
        free = sa.or_(table.c.leased_until.is_(None), table.c.leased_until < now)
        due = sa.select(table.c.id).where(schema.UNDELIVERED, table.c.due_at <= now, free)
        due = due.order_by(table.c.due_at, table.c.id).limit(limit)
        if busy:
            due = due.where(table.c.target.not_in(busy))
        if not await self._database.fetch(due):  # mostly nothing is due, and looking costs no write
            return []
        async with self._database.write() as connection:
            ids = (await connection.execute(due.with_for_update(skip_locked=True))).scalars().all()
            seconds = sa.case((table.c.tries == 0, FIRST_TRY_SECONDS), else_=LATER_TRY_SECONDS)
            taken = {"tries": table.c.tries + 1, "leased_until": now + LEASE_MARGIN_SECONDS + seconds}
            statement = sa.update(table).where(table.c.id.in_(ids)).values(taken).returning(*RECORD)
            claimed = [_as_delivery(row) for row in (await connection.execute(statement)).all()]
        return sorted(claimed, key=lambda delivery: (delivery.due_at, delivery.id))

    async def delivered(self, delivery: Delivery, answer: str) -> None:
        """Ends a delivery that its target took in."""
        await self._conclude(delivery, answer, DeliveryState.DELIVERED)

    async def not_delivered(self, delivery: Delivery, answer: str, *, first_wait: float, final: bool = False) -> None:
        """Ends a try that failed: another follows after `wait_after`, unless it is `final`, was the last one, or the
        result will have expired by then."""
        due = self._now() + wait_after(delivery.tries, first_wait)
        expired = delivery.expires_at is not None and due > delivery.expires_at
        if final or expired or delivery.tries >= MOST_TRIES:
            await self._conclude(delivery, answer, DeliveryState.GIVEN_UP)
        else:
            await self._settle(delivery, answer, due_at=due)

    async def hand_back(self, delivery: Delivery) -> None:
        """Gives up the lease as if there had been no try: whoever delivers is stopping."""
        await self._settle(delivery, delivery.answer, tries=table.c.tries - 1)

    async def list(self, request_id: str | None = None, *, limit: int = 50) -> builtins.list[Delivery]:
        """Lists deliveries of a request or of all, newest first."""
        query = sa.select(*RECORD).order_by(table.c.id.desc()).limit(limit)
        if request_id is not None:
            query = query.where(table.c.request_id == request_id)
        return [_as_delivery(row) for row in await self._database.fetch(query)]

    @uninterrupted
    async def replay(self, request_id: str) -> Delivery:
        """Sends a request's webhook again, with the same content; one that still waits is tried now. Raises NotFound
        where there is none, BadRequest where its content was not kept."""
        async with self._database.write() as connection:
            await self._database.take_turns(connection, f"replay {request_id}")
            query = sa.select(*RECORD).where(table.c.request_id == request_id).order_by(table.c.id.desc()).limit(1)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise NotFound(
                    "There is no webhook for this request.",
                    remedy="One is made when a request ends that was sent with fal_webhook.",
                )
            newest = _as_delivery(row)
            if newest.message is None:
                raise BadRequest("The content of this webhook is not kept any more.", remedy="Send the request again.")
            if newest.state is DeliveryState.WAITING:
                change = sa.update(table).where(table.c.id == newest.id).values(due_at=self._now())
                return _as_delivery((await connection.execute(change.returning(*RECORD))).one())
            same = {name: getattr(newest, name) for name in ("request_id", "url", "target", "message", "expires_at")}
            return await _insert(connection, self._now(), **same)

    async def signing_keys(self) -> builtins.list[SigningKey]:
        """Lists the keys that are to be published, oldest first; the first one is made when it is first asked for."""
        rows = await self._database.fetch(_EVERY_KEY)
        return published(_as_keys(rows) or await self._first_signing_key(), self._now())

    @uninterrupted
    async def rotate_signing_key(self, *, at_once: bool = False) -> SigningKey:
        """Makes the key that takes over in a day; `at_once` it signs now and all others are forgotten, as when one
        was stolen."""
        async with self._database.write() as connection:
            await self._database.take_turns(connection, "signing keys")
            known = _as_keys((await connection.execute(_EVERY_KEY)).all())
            kept = [] if at_once else [key.id for key in published(known, self._now())]
            await connection.execute(sa.delete(schema.signing_keys).where(schema.signing_keys.c.id.not_in(kept)))
            return await self._add_signing_key(connection)

    @uninterrupted
    async def _first_signing_key(self) -> builtins.list[SigningKey]:
        async with self._database.write() as connection:
            await self._database.take_turns(connection, "signing keys")
            known = _as_keys((await connection.execute(_EVERY_KEY)).all())
            return known or [await self._add_signing_key(connection)]  # another process may have been faster

    async def _add_signing_key(self, connection: AsyncConnection) -> SigningKey:
        key = SigningKey(str(uuid.uuid4()), random.token_bytes(SEED_BYTES), self._now())
        await connection.execute(sa.insert(schema.signing_keys).values(asdict(key)))
        return key

    async def _conclude(self, delivery: Delivery, answer: str, state: DeliveryState) -> None:
        """Ends a delivery; what the sender asked not to be kept is forgotten with it."""
        request = schema.requests.c
        kept = sa.exists().where(request.id == delivery.request_id, request.store_io)
        message = sa.case((kept, table.c.message), else_=sa.null())
        await self._settle(delivery, answer, state=state, ended_at=self._now(), message=message)

    async def _settle(self, delivery: Delivery, answer: str, **values: Any) -> None:
        """Ends a try, unless its lease was lost and another one counts by now."""
        held = (table.c.id == delivery.id, table.c.tries == delivery.tries, schema.UNDELIVERED)
        kept = {"leased_until": None, "answer": cleaned(answer)[:_LONGEST_ANSWER], **values}
        await self._database.execute(sa.update(table).where(*held).values(kept))


def wait_after(tries: int, first_wait: float) -> float:
    """Tells the seconds until the next try: twice as long each time, up to four hours."""
    return min(first_wait * 2.0 ** min(tries - 1, 60), LONGEST_WAIT)


async def enqueue_webhook(connection: AsyncConnection, request: Request, *, encodable: bool) -> None:
    """Puts the webhook of a request that has just ended into the outbox, if it asked for one. It takes the place of an
    earlier one that still waits: a retry that went well must not be followed by the news of the failure before."""
    asked = schema.requests.c
    query = sa.select(asked.webhook_url, asked.file_lifetime).where(asked.id == request.id)
    url, lifetime = (await connection.execute(query)).one()
    if url is None:
        return
    ended = request.ended_at or request.created_at
    earlier = sa.update(table).where(table.c.request_id == request.id, schema.UNDELIVERED)
    superseded = {"state": DeliveryState.GIVEN_UP, "ended_at": ended, "answer": "Superseded by a later result."}
    await connection.execute(earlier.values(superseded))
    expires_at = None if lifetime is None else ended + lifetime
    sent = {"url": url, "target": _target(url), "message": _message(request, encodable=encodable)}
    await _insert(connection, ended, request_id=request.id, expires_at=expires_at, **sent)


def _target(url: str) -> str:
    """Tells whom a webhook goes to. Whatever URL was once accepted, that its request ends cannot fail on it."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def _message(request: Request, *, encodable: bool) -> Json:
    """Makes fal's message, its URLs internal still."""
    message: Json = {"request_id": request.id, "gateway_request_id": request.id}
    if request.outcome is not Outcome.OK:
        failure = request.failure
        code, body = (500, {}) if failure is None else (failure.status, failure.body)
        return {**message, "status": "ERROR", "error": f"Invalid status code: {code}", "payload": body}
    if not encodable:
        return {**message, "status": "OK", "payload": None, "payload_error": UNENCODABLE}
    return {**message, "status": "OK", "payload": request.output}


async def _insert(connection: AsyncConnection, at: float, **values: Any) -> Delivery:
    row = {"state": DeliveryState.WAITING, "created_at": at, "due_at": at, **values}
    return _as_delivery((await connection.execute(sa.insert(table).values(row).returning(*RECORD))).one())


def _as_delivery(row: AnyRow) -> Delivery:
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})


def _as_keys(rows: Sequence[AnyRow]) -> list[SigningKey]:
    return [SigningKey(row.id, bytes(row.seed), row.created_at) for row in rows]


def signing_key(keys: Sequence[SigningKey], now: float) -> SigningKey:
    """Chooses which of them (oldest first) signs now: the newest that every receiver knows of."""
    return [key for place, key in enumerate(keys) if place == 0 or key.created_at <= now - CACHED_SECONDS][-1]


def published(keys: Sequence[SigningKey], now: float) -> list[SigningKey]:
    """Chooses those of which a signature may still have to be checked."""
    done = [key.created_at <= now - 2 * CACHED_SECONDS for key in keys]
    return [key for place, key in enumerate(keys) if not any(done[place + 1 :])]
