"""What is forgotten: results of requests whose sender asked that nothing be kept, and those that a person finds old.

The input of the former went with their end (requests.py); the result stays long enough to be fetched. What remains in
either case is a row that says that there was such a request, and how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.errors import Json
from tintype.store import schema
from tintype.store.records import Status
from tintype.store.repository import Repository, uninterrupted

FETCHING_SECONDS = 3600.0  # in which a result that is not to be kept can be fetched
BATCH = 100

table = schema.requests


class Retention(Repository):
    """The part of `Queue` that forgets."""

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
