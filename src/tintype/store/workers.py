"""Which supervisors there are, so that `/ready` can tell, and a restart finds the leases of dead local processes."""

from __future__ import annotations

import builtins
from dataclasses import asdict, replace

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tintype.store import schema
from tintype.store.records import Worker
from tintype.store.repository import Repository

table = schema.workers


class Workers(Repository):
    """Knows supervisors."""

    async def announce(self, worker: Worker) -> None:
        """Registers or refreshes a lane, as seen now."""
        row = asdict(replace(worker, seen_at=self._now()))
        insert = (sqlite.insert if self._database.sqlite else postgresql.insert)(table).values(row)
        await self._database.execute(insert.on_conflict_do_update(index_elements=[table.c.id], set_=row))

    async def retire(self, worker_id: str) -> None:
        """Forgets a lane; its leases are not touched (see release_worker)."""
        await self._database.execute(sa.delete(table).where(table.c.id == worker_id))

    async def list(self, *, seen_within: float | None = None) -> builtins.list[Worker]:
        """Lists lanes that have not been retired, by id; with `seen_within`, only those announced so lately."""
        query = sa.select(table).order_by(table.c.id)
        if seen_within is not None:
            query = query.where(table.c.seen_at >= self._now() - seen_within)
        rows = await self._database.fetch(query)
        return [Worker(**{**row._mapping, "resident": tuple(row.resident)}) for row in rows]
