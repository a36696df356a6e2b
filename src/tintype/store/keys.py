"""API keys, kept as hashes, whose they are, and the random secrets of the installation itself.

A key's secret is 256 random bits, so one SHA-256 is enough to keep it: slow hashes exist for passwords that people
think up and others can guess, and would cost every poll tens of milliseconds here.

What is made keeps the id of the key it was made with; whose it is, is told here alone (`owns`, and `belongs_to` for a
query). Keys of one name have one owner, so that a key can be replaced without losing what was made with it. What was
made while no key was asked for ("") is everybody's, and whoever asks while none is asked for sees everything.
"""

from __future__ import annotations

import builtins
import hashlib
import hmac
import secrets as random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tintype.store import schema
from tintype.store.database import Database
from tintype.store.records import ApiKey, Scope
from tintype.store.repository import Clock, Repository, uninterrupted
from tintype.store.schema import cleaned

SECRET_BYTES = 32
REMEMBERED_SECONDS = 1.0  # how long another process's revocation may go unnoticed
LAST_USED_SECONDS = 60.0  # last_used_at is no more exact than this: it must not cost every poll a write

table = schema.api_keys
RECORD = (table.c.id, table.c.name, table.c.created_at, table.c.last_used_at, table.c.revoked_at, table.c.scope)
_USABLE = f"SELECT digest, {', '.join(c.name for c in RECORD)} FROM api_keys WHERE id = :key AND revoked_at IS NULL"


class Keys(Repository):
    """Knows who may ask."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self._remembered: dict[str, tuple[float, bytes, ApiKey]] = {}  # by id: until when, digest, key
        self._in_use: dict[str, tuple[float, bool]] = {}  # by id: until when
        self._known: dict[str, ApiKey] = {}  # by id; a key's name and scope never change

    async def create(self, name: str, scope: Scope = Scope.API) -> tuple[ApiKey, str]:
        """Makes a key and its secret text `<id>:<secret>`, which is kept only as a hash."""
        secret = random.token_hex(SECRET_BYTES)
        key = ApiKey(str(uuid.uuid4()), name, self._now(), None, None, scope)
        row = {"id": key.id, "name": name, "digest": _digest(secret), "created_at": key.created_at, "scope": scope}
        await self._database.execute(sa.insert(table).values(row))
        return key, f"{key.id}:{secret}"

    async def check(self, text: str) -> ApiKey | None:
        """Finds the key of `<id>:<secret>`, unless unknown or revoked (by another process: within a second). Takes
        constant time in the secret; mostly answered from memory."""
        key_id, _, secret = text.partition(":")
        if not secret.isascii() or not secret:
            return None
        now = self._now()
        until, digest, key = self._remembered.get(key_id, (0.0, b"", None))
        if key is None or not now <= until <= now + REMEMBERED_SECONDS:
            row = await self._database.look_up(_USABLE, cleaned(key_id))
            if row is None:
                self._remembered.pop(key_id, None)
                return None
            digest, key = bytes(row[0]), _as_key(row[1:])
            self._known[key_id] = key
            self._remembered[key_id] = (now + REMEMBERED_SECONDS, digest, key)
        if not hmac.compare_digest(digest, _digest(secret)):
            return None
        if key.last_used_at is None or now - key.last_used_at >= LAST_USED_SECONDS:
            key = replace(key, last_used_at=now)
            # Remembered before it is written, so that polls that come together write once.
            self._remembered[key_id] = (now + REMEMBERED_SECONDS, digest, key)
            await self._database.execute(sa.update(table).where(table.c.id == key_id).values(last_used_at=now))
        return key

    async def is_in_use(self, key_id: str) -> bool:
        """Tells whether there is such a key, not revoked; "" is in use where none is asked for. Open streams ask often,
        so that an answer is good for a second."""
        now = self._now()
        until, in_use = self._in_use.get(key_id, (0.0, not key_id))
        if not key_id or now <= until <= now + REMEMBERED_SECONDS:
            return in_use
        in_use = await self._database.look_up(_USABLE, cleaned(key_id)) is not None
        self._in_use[key_id] = (now + REMEMBERED_SECONDS, in_use)
        return in_use

    async def list(self) -> builtins.list[ApiKey]:
        """Lists all keys, revoked ones too, oldest first."""
        rows = await self._database.fetch(sa.select(*RECORD).order_by(table.c.created_at, table.c.id))
        return [_as_key(row) for row in rows]

    async def owner_of(self, key_id: str) -> str:
        """Tells whose a key is, or was; "" where no key was asked for."""
        key = await self._find(key_id)
        return key.owner if key else key_id

    async def is_known(self, key_id: str) -> bool:
        """Tells whether there is, or was, a key of that id."""
        return await self._find(key_id) is not None

    async def is_admin(self, key_id: str) -> bool:
        """Tells whether a key administers the installation; so does everybody where no key was asked for."""
        key = await self._find(key_id)
        return key.scope is Scope.ADMIN if key else not key_id

    async def _find(self, key_id: str) -> ApiKey | None:
        if key_id and key_id not in self._known:
            for row in await self._database.fetch(sa.select(*RECORD).where(table.c.id == key_id)):
                self._known[key_id] = _as_key(row)
        return self._known.get(key_id)

    async def owns(self, owner: str, key_id: str) -> bool:
        """Tells whether what was made with a key is the owner's to see."""
        return not owner or not key_id or await self.owner_of(key_id) == owner

    @uninterrupted
    async def revoke(self, name_or_id: str, *, by_name: bool = True) -> builtins.list[ApiKey]:
        """Ends a key by its id, or, unless not asked for, every key of a name; returns those that were in use."""
        named = sa.or_(table.c.id == name_or_id, table.c.name == name_or_id) if by_name else table.c.id == name_or_id
        statement = sa.update(table).where(named, table.c.revoked_at.is_(None)).values(revoked_at=self._now())
        rows = await self._database.execute(statement.returning(*RECORD))
        self._remembered.clear()
        self._in_use.clear()
        return [_as_key(row) for row in rows]

    @uninterrupted
    async def secret(self, name: str, *, size: int = 32) -> bytes:
        """Returns a random secret, made on first use and the same ever after, for all processes. `size` in bytes."""
        stored = schema.secrets
        query = sa.select(stored.c.value).where(stored.c.name == name)
        rows = await self._database.fetch(query)
        if rows:
            return bytes(rows[0].value)
        insert = sqlite.insert if self._database.sqlite else postgresql.insert
        fresh = insert(stored).values(name=name, value=random.token_bytes(size)).on_conflict_do_nothing()
        async with self._database.write() as connection:
            await connection.execute(fresh)
            return bytes((await connection.execute(query)).scalar_one())


def belongs_to(owner: str, key_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Makes the condition that says the same as `owns`, for a query."""
    theirs = sa.select(table.c.id).where(table.c.name == owner)
    return sa.or_(key_id.in_(("", owner)), key_id.in_(theirs)) if owner else sa.true()


def of_same_owner(key_id: sa.ColumnElement[str], as_of: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Makes the condition that something was made with the key `as_of`, or with one of the same name."""
    named = sa.select(table.c.name).where(table.c.id == as_of, table.c.name != "").scalar_subquery()
    same = sa.select(table.c.id).where(table.c.name == named)
    return key_id.in_(same.union_all(sa.select(as_of)))


def _as_key(row: Sequence[Any]) -> ApiKey:
    stored = dict(zip((column.name for column in RECORD), row, strict=True))
    return ApiKey(**{**stored, "scope": Scope(stored["scope"])})


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
