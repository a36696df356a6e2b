"""What is forgotten by itself: the results of requests whose sender asked that nothing be kept.

Their input went with their end (requests.py). The result stays long enough to be fetched; then the row only says that
there was such a request, and how it ended.
"""

from __future__ import annotations

import sqlalchemy as sa

from tintype.errors import Json
from tintype.queue import schema
from tintype.queue.room import Room, uninterrupted

FETCHING_SECONDS = 3600.0  # in which a result that is not to be kept can be fetched
BATCH = 100

table = schema.requests


class Retention(Room):
    """The part of `Queue` that forgets."""

    @uninterrupted
    async def erase_unstored(self) -> int:
        """Erases output, failure and log of requests that ended an hour ago and were not to be kept. Returns how
        many; their files expire as the sender asked."""
        told = sa.or_(table.c.output.is_not(None), table.c.failure.is_not(None))
        over = (schema.UNSTORED, table.c.ended_at < self._now() - FETCHING_SECONDS, told)
        async with self._database.write() as connection:
            ids = (await connection.execute(sa.select(table.c.id).where(*over).limit(BATCH))).scalars().all()
            if ids:
                blank: Json = {
                    "input": {},
                    "output": None,
                    "failure": None,
                    "version": table.c.version + 1,
                    "log_count": 0,
                }
                await connection.execute(sa.update(table).where(table.c.id.in_(ids)).values(blank))
                await connection.execute(sa.delete(schema.logs).where(schema.logs.c.request_id.in_(ids)))
        return len(ids)
