"""The keys that webhooks are signed with, and how one takes over from another without a receiver noticing.

Receivers keep the published keys for up to a day. So a new key is published a day before it signs, and an old one stays
published for a day after its last signature. They lie in the database: every web process signs with the same.
"""

from __future__ import annotations

import secrets as random
import uuid
from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.store import schema
from tintype.store.database import AnyRow
from tintype.store.records import SigningKey
from tintype.store.repository import Repository, uninterrupted

SEED_BYTES = 32  # of an ED25519 private key
CACHED_SECONDS = 24 * 3600.0  # how long receivers keep the published keys

table = schema.signing_keys
EVERY = sa.select(table).order_by(table.c.created_at, table.c.id)


class SigningKeys(Repository):
    """The part of `Queue` that keeps them."""

    async def signing_keys(self) -> list[SigningKey]:
        """All that are to be published, oldest first; the first one is made when it is first asked for."""
        rows = await self._database.fetch(EVERY)
        return published(_as_keys(rows) or await self._first_signing_key(), self._now())

    @uninterrupted
    async def rotate_signing_key(self, *, at_once: bool = False) -> SigningKey:
        """Makes the key that takes over in a day; `at_once` it signs now and all others are forgotten, as when one
        was stolen."""
        async with self._database.write() as connection:
            await self._database.take_turns(connection, "signing keys")
            known = _as_keys((await connection.execute(EVERY)).all())
            kept = [] if at_once else [key.id for key in published(known, self._now())]
            await connection.execute(sa.delete(table).where(table.c.id.not_in(kept)))
            return await self._add(connection)

    @uninterrupted
    async def _first_signing_key(self) -> list[SigningKey]:
        async with self._database.write() as connection:
            await self._database.take_turns(connection, "signing keys")
            known = _as_keys((await connection.execute(EVERY)).all())
            return known or [await self._add(connection)]  # another process may have been faster

    async def _add(self, connection: AsyncConnection) -> SigningKey:
        key = SigningKey(str(uuid.uuid4()), random.token_bytes(SEED_BYTES), self._now())
        await connection.execute(sa.insert(table).values(asdict(key)))
        return key


def _as_keys(rows: Sequence[AnyRow]) -> list[SigningKey]:
    return [SigningKey(row.id, bytes(row.seed), row.created_at) for row in rows]


def signing_key(keys: Sequence[SigningKey], now: float) -> SigningKey:
    """Which of them (oldest first) signs now: the newest that every receiver knows of."""
    return [key for place, key in enumerate(keys) if place == 0 or key.created_at <= now - CACHED_SECONDS][-1]


def published(keys: Sequence[SigningKey], now: float) -> list[SigningKey]:
    """Those of which a signature may still have to be checked."""
    done = [key.created_at <= now - 2 * CACHED_SECONDS for key in keys]
    return [key for place, key in enumerate(keys) if not any(done[place + 1 :])]
