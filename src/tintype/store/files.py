"""Which stored files may be downloaded: those with a row here. A result's files get theirs with the result."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.errors import Json
from tintype.files import own_reference
from tintype.files.acl import AccessList, Decision
from tintype.files.urls import opened_until
from tintype.settings import Limits
from tintype.store import schema
from tintype.store.database import Database
from tintype.store.keys import Keys, belongs_to, of_same_owner
from tintype.store.records import Request, StoredFile
from tintype.store.repository import Clock, Repository, uninterrupted
from tintype.store.schema import cleaned

NO_ROOM = (
    "Delete custom models, or ask for `tintype gc --older-than`; X-Fal-Object-Lifecycle lets files go by themselves."
)

_SETTINGS = "SELECT file_lifetime, file_acl FROM storage_settings WHERE owner = :key"

table = schema.files


class Files(Repository):
    """Knows files, and who may read them; their bytes are kept elsewhere."""

    def __init__(self, database: Database, clock: Clock, keys: Keys, limits: Limits | None = None) -> None:
        super().__init__(database, clock, limits)
        self._keys = keys

    @uninterrupted
    async def add(self, file: StoredFile, *, replaces: str = "") -> None:
        """Makes a file visible; one of the same id, or of the id that it `replaces`, goes in the same moment.
        Raises LimitReached."""
        async with self._database.write() as connection:
            await self._database.take_turns(connection, "stored bytes")
            await connection.execute(sa.delete(table).where(table.c.id.in_((file.id, replaces))))
            held = (await connection.execute(stored_bytes(sa.literal(file.key_id, sa.Text)))).scalar_one()
            self._limits.check("stored_bytes", held + file.size, NO_ROOM)
            await insert(connection, [file])

    async def check_room(self, key_id: str, size: int, *, replaces: str) -> None:
        """Raises LimitReached for a person who may not store so many bytes, in place of one file's if there is one."""
        [(held,)] = await self._database.fetch(stored_bytes(sa.literal(key_id, sa.Text)).where(table.c.id != replaces))
        self._limits.check("stored_bytes", held + size, NO_ROOM)

    async def find(self, file_id: str) -> StoredFile | None:
        """Finds a file by its id; None for unknown and for expired ones."""
        lasting = sa.or_(table.c.expires_at.is_(None), table.c.expires_at > self._now())
        found = await self._select(sa.select(table).where(table.c.id == file_id, lasting))
        return found[0] if found else None

    async def decide(self, file: StoredFile, key_id: str) -> Decision:
        """Says what a caller with a key, who may be named by its id or by its owner, meets at a file."""
        owner = await self._keys.owner_of(key_id)
        if file.acl is None or await self._keys.owns(owner, file.key_id):
            return Decision.ALLOW
        return AccessList.from_json(file.acl).decide({key_id, owner})

    async def is_readable(self, reference: str, key_id: str) -> bool:
        """Tells whether a request that was sent with a key may read, now, what a reference in it names."""
        own = own_reference(reference)
        file = await self.find(own[0]) if own else None
        if file is None or own != (file.id, file.file_name):
            return False
        return opened_until(reference) > self._now() or await self.decide(file, key_id) is Decision.ALLOW

    async def of_request(self, request_id: str) -> builtins.list[StoredFile]:
        """Lists the files of a request's result, and of what it sent, oldest first."""
        order = (table.c.created_at, table.c.id)
        return await self._select(sa.select(table).where(table.c.request_id == request_id).order_by(*order))

    async def list(self, *, owner: str = "", limit: int = 50, before: float | None = None) -> builtins.list[StoredFile]:
        """Lists a person's files, newest first; `before` is the `created_at` of the last one seen."""
        lasting = sa.or_(table.c.expires_at.is_(None), table.c.expires_at > self._now())
        query = sa.select(table).where(belongs_to(owner, table.c.key_id), lasting)
        if before is not None:
            query = query.where(table.c.created_at < before)
        return await self._select(query.order_by(table.c.created_at.desc(), table.c.id).limit(limit))

    async def bytes_of(self, key_id: str) -> int:
        """Adds up the sizes of all files of a key's owner."""
        [(held,)] = await self._database.fetch(stored_bytes(sa.literal(key_id, sa.Text)))
        return int(held)

    async def expired(self, limit: int = 100) -> builtins.list[StoredFile]:
        """Lists files whose time is over, for whoever removes their bytes; remove the row after the object."""
        over = table.c.expires_at <= self._now()
        return await self._select(sa.select(table).where(over).order_by(table.c.expires_at).limit(limit))

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Tells which of these ids there are files of, expired ones too."""
        query = sa.select(table.c.id).where(table.c.id.in_(ids))
        return {row.id for row in await self._database.fetch(query)}

    async def set_acl(self, file_id: str, acl: Json | None) -> None:
        """Replaces who may read a file."""
        await self._database.execute(sa.update(table).where(table.c.id == file_id).values(acl=acl))

    async def settings_of(self, owner: str) -> tuple[float | None, Json | None]:
        """Tells how long a person's new files are kept (None: for ever), and who may read them (None: whoever knows
        their URLs), where a request says nothing else."""
        row = await self._database.look_up(_SETTINGS, cleaned(owner))  # with every upload and submit
        if row is None:
            return None, None
        return row[0], json.loads(row[1]) if isinstance(row[1], str) else row[1]

    @uninterrupted
    async def set_settings(self, owner: str, lifetime: float | None, acl: Json | None) -> None:
        """Replaces what `settings_of` tells."""
        stored = schema.storage_settings
        async with self._database.write() as connection:
            await self._database.take_turns(connection, f"storage settings {owner}")
            await connection.execute(sa.delete(stored).where(stored.c.owner == owner))
            row = {"owner": owner, "file_lifetime": lifetime, "file_acl": acl}
            await connection.execute(sa.insert(stored).values(row))

    async def remove(self, file_id: str) -> None:
        """Forgets a file; an unknown one is already forgotten."""
        await self._database.execute(sa.delete(table).where(table.c.id == file_id))

    async def _select(self, query: sa.Select[*tuple[Any, ...]]) -> builtins.list[StoredFile]:
        return [StoredFile(**row._mapping) for row in await self._database.fetch(query)]


def stored_bytes(key_id: sa.ColumnElement[str]) -> sa.Select[int]:
    """Makes the query for the size of all files of a key's owner."""
    return sa.select(sa.func.coalesce(sa.func.sum(table.c.size), 0)).where(of_same_owner(table.c.key_id, key_id))


async def insert(connection: AsyncConnection, files: Sequence[StoredFile], request: Request | None = None) -> None:
    """Adds rows, as files of a request if one is given."""
    if request is not None:
        files = [replace(file, request_id=request.id, key_id=file.key_id or request.key_id) for file in files]
    if files:
        await connection.execute(sa.insert(table), [asdict(file) for file in files])
