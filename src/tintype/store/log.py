"""Log lines of a request, bounded: a job that prints in a loop must not fill the disk or a poll's answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.store import schema
from tintype.store.records import LogLine
from tintype.store.repository import cleaned

MOST_LINES = 1000
DROPPED = f"Further lines were dropped: at most {MOST_LINES:,} are kept for a request."


async def append(connection: AsyncConnection, request_id: str, lines: Sequence[LogLine]) -> bool:
    """Numbers and keeps lines of a request that the transaction holds; returns whether any was added."""
    table = schema.requests
    if not lines:
        return False
    first = (await connection.execute(sa.select(table.c.log_count).where(table.c.id == request_id))).scalar_one()
    rows = [
        {
            "request_id": request_id,
            "number": number,
            "at": line.at,
            "level": line.level,
            "message": cleaned(line.message) if number < MOST_LINES - 1 else DROPPED,
            "source": line.source,
        }
        for number, line in enumerate(islice(lines, max(MOST_LINES - first, 0)), first)
    ]
    if rows:
        await connection.execute(sa.insert(schema.logs), rows)
        await connection.execute(sa.update(table).where(table.c.id == request_id).values(log_count=first + len(rows)))
    return bool(rows)
