"""Custom models: registered with the request that trains them, and never in another state than that request says.

A model's row changes in the transactions that change its request, so a worker that is killed leaves it TRAINING, and a
training that is answered as COMPLETED has made a model that can be used. A training that was cancelled leaves its model
ERRORED, because Ideogram's words have none for it and it can be retried like one that failed.

An id answers for ever: a deleted model is ARCHIVED and has no files.
"""

from __future__ import annotations

import base64
import builtins
import re
import unicodedata
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.catalog.custom_models import ModelStatus
from tintype.errors import BadRequest
from tintype.store import schema
from tintype.store.database import AnyRow, Database
from tintype.store.keys import belongs_to
from tintype.store.records import CustomModel, NewModel, Outcome, Request, Status, StoredFile
from tintype.store.repository import Repository, uninterrupted

table = schema.models

_ENDED = (ModelStatus.COMPLETED, ModelStatus.ERRORED, ModelStatus.ARCHIVED)


class Models(Repository):
    """Knows custom models. Without an `owner` all of them are seen."""

    async def find(self, model_id: str, *, owner: str = "") -> CustomModel | None:
        """Finds a model by its id, deleted ones too."""
        query = sa.select(table).where(table.c.id == model_id, belongs_to(owner, table.c.key_id))
        rows = await self._database.fetch(query)
        return _as_model(rows[0]) if rows else None

    async def list(
        self, *, owner: str = "", status: ModelStatus | None = None, limit: int = 50, before: float | None = None
    ) -> builtins.list[CustomModel]:
        """Lists models, newest first; archived ones only when their status is asked for, deleted ones never. `before`
        is the `created_at` of the last one seen."""
        query = sa.select(table).where(belongs_to(owner, table.c.key_id), table.c.deleted_at.is_(None))
        query = query.where(table.c.status == status if status else table.c.status != ModelStatus.ARCHIVED)
        if before is not None:
            query = query.where(table.c.created_at < before)
        query = query.order_by(table.c.created_at.desc(), table.c.id).limit(limit)
        return [_as_model(row) for row in await self._database.fetch(query)]

    async def rename(self, model_id: str, name: str, *, owner: str = "") -> CustomModel | None:
        """Changes the display name, not the URI; None for an unknown or deleted model."""
        mine = (table.c.id == model_id, table.c.deleted_at.is_(None), belongs_to(owner, table.c.key_id))
        rows = await self._database.execute(sa.update(table).where(*mine).values(name=name).returning(table))
        return _as_model(rows[0]) if rows else None

    @uninterrupted
    async def archive(self, model_id: str, *, owner: str = "") -> CustomModel | None:
        """Hides a model and keeps its files; None for an unknown one. Raises BadRequest while it is being trained."""
        async with self._database.write() as connection:
            model = await _ended(connection, model_id, owner)
            return model and await _archive(connection, model)

    @uninterrupted
    async def delete(self, model_id: str, *, owner: str = "") -> tuple[CustomModel, builtins.list[StoredFile]] | None:
        """Ends a model: its id answers ARCHIVED, the files of its training have expired. Returns those for whoever
        removes their bytes at once (housekeeping does so later). Raises BadRequest while it is being trained."""
        async with self._database.write() as connection:
            model = await _ended(connection, model_id, owner)
            if model is None:
                return None
            now = self._now()
            deleted_at = now if model.deleted_at is None else model.deleted_at
            gone = await _archive(connection, model, files={}, deleted_at=deleted_at)
            files = schema.files
            expired = sa.update(files).where(files.c.request_id == model.request_id).values(expires_at=now)
            rows = (await connection.execute(expired.returning(files))).all()
            return gone, [StoredFile(**row._mapping) for row in rows]


def new_id() -> str:
    """Makes a random UUID in 22 URL-safe characters, the first of which no command line takes for an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))[0] in "-_":
        pass
    return made


def slug_of(new: NewModel, request: Request) -> str:
    """Writes the name in small Latin letters, digits and hyphens; "model" where nothing of it can be written so."""
    plain = unicodedata.normalize("NFKD", _name_of(new, request)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "model"


def _name_of(new: NewModel, request: Request) -> str:
    return new.name or f"model-{request.id[:8]}"


async def register(database: Database, connection: AsyncConnection, new: NewModel, request: Request) -> None:
    """Adds the model that a new request makes, under the next version of its slug."""
    slug = slug_of(new, request)
    await database.take_turns(connection, f"slug {slug}")
    newest = sa.select(sa.func.coalesce(sa.func.max(table.c.version), 0)).where(table.c.slug == slug)
    version = (await connection.execute(newest)).scalar_one() + 1
    named = {"id": request.model_id, "name": _name_of(new, request), "slug": slug, "version": version}
    made_by = {"request_id": request.id, "key_id": request.key_id, "created_at": request.created_at}
    await connection.execute(sa.insert(table).values(status=ModelStatus.CREATING, **named, **made_by))


async def sync_status_with_request(connection: AsyncConnection, request: Request) -> None:
    """Brings the model that a request makes to where the request is now; one that was deleted stays so."""
    if request.kind != "training" or request.model_id is None:
        return
    statement = sa.update(table).where(table.c.id == request.model_id, table.c.deleted_at.is_(None))
    if request.status is Status.IN_QUEUE:  # given back after a death: still TRAINING; or retried after its end
        again = {"status": ModelStatus.CREATING, "reason": "", "ended_at": None}
        statement = statement.where(table.c.status.in_(_ENDED)).values(again)
    elif request.status is Status.IN_PROGRESS:
        statement = statement.where(table.c.status != ModelStatus.TRAINING).values(status=ModelStatus.TRAINING)
    elif request.outcome is Outcome.OK:
        output = request.output or {}
        files = {name: value for name, value in output.items() if isinstance(value, dict) and "url" in value}
        statement = statement.values(status=ModelStatus.COMPLETED, files=files, ended_at=request.ended_at)
    else:
        statement = statement.values(status=ModelStatus.ERRORED, reason=_reason(request), ended_at=request.ended_at)
    await connection.execute(statement)


async def model_of_request(connection: AsyncConnection, request: Request) -> CustomModel | None:
    """Finds the model that a request makes or uses, as it stands."""
    if request.model_id is None:
        return None
    row = (await connection.execute(sa.select(table).where(table.c.id == request.model_id))).one_or_none()
    return None if row is None else _as_model(row)


async def _ended(connection: AsyncConnection, model_id: str, owner: str) -> CustomModel | None:
    """Finds a model whose training has ended, held until the transaction ends. Raises BadRequest for another."""
    query = sa.select(table).where(table.c.id == model_id, belongs_to(owner, table.c.key_id)).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    model = _as_model(row)
    if model.status not in _ENDED:
        raise BadRequest(
            f"The custom model {model.name!r} is {model.status}.",
            remedy=f"Cancel its training first: request {model.request_id}.",
        )
    return model


async def _archive(connection: AsyncConnection, model: CustomModel, **values: Any) -> CustomModel:
    changed = sa.update(table).where(table.c.id == model.id).values(status=ModelStatus.ARCHIVED, **values)
    return _as_model((await connection.execute(changed.returning(table))).one())


def _reason(request: Request) -> str:
    if request.outcome is Outcome.CANCELLED:
        return "Its training was cancelled."
    body = request.failure.body if request.failure else {}
    return str(body.get("message") or body.get("detail") or "Its training failed.")


def _as_model(row: AnyRow) -> CustomModel:
    return CustomModel(**{**row._mapping, "status": ModelStatus(row.status)})
