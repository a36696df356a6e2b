"""What a request was given and what it made, forgotten on demand: afterwards its row says when it ran and how it ended.

Nothing of the content stays in another table, nor in what a database keeps of a row that was changed (database.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.catalog.custom_models import ModelStatus
from tintype.errors import BadRequest, Json
from tintype.files import own_reference
from tintype.store import schema
from tintype.store.keys import of_same_owner
from tintype.store.records import DeliveryState, Request, Status, StoredFile
from tintype.store.repository import Repository, uninterrupted
from tintype.store.requests import RECORD, as_request, change, locked

FORGOTTEN = "The payloads of its request were deleted."

table = schema.requests
files = schema.files


class Payloads(Repository):
    """Finds the files of a request, and forgets all that it held."""

    async def files_of(self, request: Request) -> tuple[list[StoredFile], list[StoredFile]]:
        """Lists the files that go with a request, and those that another, which has not ended, reads still. Its own are
        its results, what its body held, and uploads of its sender's that it names; the results of another are not."""
        named = {*_references(request.input)}
        mine = of_same_owner(files.c.key_id, sa.literal(request.key_id, sa.Text))
        uploads = sa.and_(files.c.id.in_(named), files.c.request_id.is_(None), mine)
        query = sa.select(files).where(sa.or_(files.c.request_id == request.id, uploads))
        found = [StoredFile(**row._mapping) for row in await self._database.fetch(query.order_by(files.c.created_at))]
        others = sa.select(table.c.input).where(schema.UNFINISHED, table.c.id != request.id)
        read = {name for row in await self._database.fetch(others) for name in _references(row.input)}
        return [file for file in found if file.id not in read], [file for file in found if file.id in read]

    async def made_from(self, request: Request) -> list[Request]:
        """Lists the requests, oldest first, that read what this one made, or what came of that: of a training also the
        others on its dataset. Those that were forgotten name nothing any more."""
        found: dict[str, Request] = {}
        fresh = [request]
        ids = {*_references(request.input)} if request.kind == "training" else set[str]()
        while fresh:
            made = sa.select(files.c.id).where(files.c.request_id.in_([one.id for one in fresh]))
            ids |= {row.id for row in await self._database.fetch(made)}
            models = {one.model_id for one in fresh if one.model_id is not None and one.kind == "training"}
            names = [sa.cast(table.c.input, sa.Text).contains(name) for name in sorted(ids)]
            for_model = sa.and_(table.c.model_id.in_(sorted(models)), table.c.receipt.is_(None))
            rows = await self._database.fetch(sa.select(*RECORD).where(sa.or_(for_model, *names)))
            known = {request.id, *found}
            fresh, ids = [one for one in map(as_request, rows) if one.id not in known], set()
            found |= {one.id: one for one in fresh}
        return sorted(found.values(), key=lambda one: one.created_at)

    @uninterrupted
    async def forget(self, request_id: str, held: Collection[StoredFile], receipt: Json) -> Request | None:
        """Forgets all that a request was given and made, and lets its files expire, except those `held`, which go with
        it the next time. Raises BadRequest for one that has not ended."""
        async with self._database.write() as connection:
            request = await locked(connection, request_id)
            if request is None:
                return None
            if request.status is not Status.COMPLETED:
                raise BadRequest(
                    f"Request {request_id} has not ended.", remedy="Cancel it first, or wait until it is COMPLETED."
                )
            ids = [file.id for file in held]
            await connection.execute(sa.update(files).where(files.c.id.in_(ids)).values(request_id=request_id))
            mine = sa.and_(files.c.request_id == request_id, files.c.id.not_in(ids))
            await connection.execute(sa.update(files).where(mine).values(expires_at=self._now()))
            await _forget_beside(connection, request, self._now())
            if request.model_id is not None and request.kind == "training":
                await _forget_model(connection, request, self._now())
            blank: dict[str, Any] = {"input": {}, "output": None, "failure": None, "progress": {}, "tags": {}}
            blank |= {"webhook_url": None, "affinity": "", "digest": None, "coalesce_key": None, "file_acl": None}
            return await change(connection, request_id, **blank, log_count=0, receipt=receipt)

    async def scrub(self) -> None:
        """Has the database give up what it keeps of rows as they were."""
        await self._database.scrub()


async def _forget_beside(connection: AsyncConnection, request: Request, now: float) -> None:
    """Forgets what other tables hold of a request's content."""
    logs, tries, sent = schema.logs, schema.attempts, schema.deliveries
    await connection.execute(sa.delete(logs).where(logs.c.request_id == request.id))
    await connection.execute(sa.update(tries).where(tries.c.request_id == request.id).values(cause=""))
    mine = sa.update(sent).where(sent.c.request_id == request.id)
    await connection.execute(mine.values(message=None, url="", target="", answer=FORGOTTEN))
    given_up = {"state": DeliveryState.GIVEN_UP, "ended_at": now}
    await connection.execute(mine.where(schema.UNDELIVERED).values(given_up))


async def _forget_model(connection: AsyncConnection, request: Request, now: float) -> None:
    """Ends the model that a training made; its names were given by a person."""
    models = schema.models
    name = f"forgotten-{request.id}"
    ended = {"status": ModelStatus.ARCHIVED, "files": {}, "reason": "", "name": name, "slug": name}
    when = sa.func.coalesce(models.c.deleted_at, now)
    await connection.execute(
        sa.update(models).where(models.c.request_id == request.id).values(**ended, deleted_at=when)
    )


def _references(value: object) -> Iterator[str]:
    """Yields the ids of files of this server that a JSON value names."""
    if isinstance(value, str):
        if own := own_reference(value):
            yield own[0]
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _references(part)
