"""Datasets: photos that are kept under a name, with their captions and crops, until somebody deletes them.

Every change of a dataset locks its row and makes its version grow, so that what was computed of a version stays true of
it. What a person wrote is replaced by persons only: the rule is part of the statement that writes captions.
"""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, count
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tintype.errors import LimitReached
from tintype.store import schema
from tintype.store.database import AnyRow
from tintype.store.files import NO_ROOM, insert, stored_bytes
from tintype.store.keys import belongs_to
from tintype.store.models import new_id
from tintype.store.records import CaptionBy, DatasetPhoto, NewPhoto, StoredDataset, StoredFile
from tintype.store.repository import Repository, uninterrupted
from tintype.store.schema import cleaned

table = schema.datasets
photos = schema.dataset_photos
files = schema.files

MOST_PHOTOS = 2000  # of one dataset: as many as a training takes

_PHOTO = [column for column in photos.c if column.name not in ("place", "thumbnail")]
_FILE = (files.c.file_name, files.c.content_type, files.c.size)
_OF_FILE = files.c.id == photos.c.file_id


class Datasets(Repository):
    """Knows datasets. Without an `owner` all of them are seen."""

    async def create(self, name: str, key_id: str) -> StoredDataset:
        """Begins an empty dataset."""
        now = self._now()
        dataset = StoredDataset(new_id(), key_id, name, version=1, created_at=now, changed_at=now)
        row = {column.name: getattr(dataset, column.name) for column in table.c}
        await self._database.execute(sa.insert(table).values(row))
        return dataset

    async def find(self, dataset_id: str, *, owner: str = "") -> StoredDataset | None:
        """Finds a dataset by its id."""
        rows = await self._database.fetch(_counted().where(table.c.id == dataset_id, belongs_to(owner, table.c.key_id)))
        return StoredDataset(**rows[0]._mapping) if rows else None

    async def list(self, *, owner: str = "", limit: int = 50, offset: int = 0) -> builtins.list[StoredDataset]:
        """Lists datasets, the one that was changed last first."""
        query = _counted().where(belongs_to(owner, table.c.key_id)).order_by(table.c.changed_at.desc(), table.c.id)
        return [StoredDataset(**row._mapping) for row in await self._database.fetch(query.limit(limit).offset(offset))]

    async def rename(self, dataset_id: str, name: str) -> bool:
        """Changes the name; False where there is no such dataset."""
        named = sa.update(table).where(table.c.id == dataset_id).values(name=name, changed_at=self._now())
        return bool(await self._database.execute(named.returning(table.c.id)))

    @uninterrupted
    async def delete(self, dataset_id: str) -> builtins.list[StoredFile]:
        """Deletes a dataset. Its files have expired; they are returned for whoever removes their bytes at once."""
        async with self._database.write() as connection:
            await self._change(connection, dataset_id)
            expired = await _delete_photos(connection, photos.c.dataset_id == dataset_id, self._now())
            await connection.execute(sa.delete(table).where(table.c.id == dataset_id))
            return expired

    # --- photos -----------------------------------------------------------------------------------------------
    async def photos(
        self, dataset_id: str, *, limit: int = MOST_PHOTOS, offset: int = 0
    ) -> builtins.list[DatasetPhoto]:
        """Lists the photos of a dataset in the order in which they came."""
        query = _with_file().where(photos.c.dataset_id == dataset_id).order_by(photos.c.place)
        return [_as_photo(row) for row in await self._database.fetch(query.limit(limit).offset(offset))]

    async def photo(self, dataset_id: str, photo_id: str) -> DatasetPhoto | None:
        """Finds one photo of a dataset."""
        query = _with_file().where(photos.c.dataset_id == dataset_id, photos.c.id == photo_id)
        rows = await self._database.fetch(query)
        return _as_photo(rows[0]) if rows else None

    async def known(self, dataset_id: str) -> builtins.list[tuple[str, str, str]]:
        """Lists id, name and SHA-256 of the photos of a dataset."""
        query = sa.select(photos.c.id, photos.c.name, photos.c.sha256).where(photos.c.dataset_id == dataset_id)
        return [(row.id, row.name, row.sha256) for row in await self._database.fetch(query)]

    async def thumbnail(self, photo: DatasetPhoto) -> bytes:
        """Returns the small JPEG of a photo; nothing once the photo is gone."""
        rows = await self._database.fetch(sa.select(photos.c.thumbnail).where(photos.c.id == photo.id))
        return bytes(rows[0].thumbnail) if rows else b""

    @uninterrupted
    async def add(
        self, dataset_id: str, new: Sequence[NewPhoto]
    ) -> tuple[builtins.list[str], builtins.list[tuple[NewPhoto, str]]] | None:
        """Adds photos whose bytes are kept; a name that is taken gets a number. Returns the ids of those that were
        added, and those that are there already, each with the name that it has. None for an unknown dataset. Raises
        LimitReached."""
        async with self._database.write() as connection:
            changed = await self._change(connection, dataset_id)
            if changed is None:
                return None
            there = sa.select(photos.c.name, photos.c.sha256).where(photos.c.dataset_id == dataset_id)
            known = {row.sha256: row.name for row in await connection.execute(there)}
            added: builtins.list[str] = []
            copies: builtins.list[tuple[NewPhoto, str]] = []
            for photo in new:
                if photo.sha256 in known:
                    copies.append((photo, known[photo.sha256]))
                    continue
                photo = replace(photo, name=_free_name(photo.name, set(known.values())))
                known[photo.sha256] = photo.name
                added.append(await self._add(connection, dataset_id, photo))
            if len(known) > MOST_PHOTOS:
                raise LimitReached(
                    f"A dataset holds at most {MOST_PHOTOS} photos.", remedy="Keep the best; 10 to 30 are plenty."
                )
            held = (await connection.execute(stored_bytes(sa.literal(changed.key_id, sa.Text)))).scalar_one()
            self._limits.check("stored_bytes", held, NO_ROOM)
            return added, copies

    async def _add(self, connection: AsyncConnection, dataset_id: str, photo: NewPhoto) -> str:
        await insert(connection, [photo.file])
        row = {name: value for name, value in asdict(photo).items() if name != "file"}
        row["caption"] = photo.caption and cleaned(photo.caption)
        row |= {"id": str(uuid.uuid4()), "dataset_id": dataset_id, "file_id": photo.file.id, "created_at": self._now()}
        await connection.execute(sa.insert(photos).values(row))
        return str(row["id"])

    @uninterrupted
    async def set_captions(
        self, dataset_id: str, captions: Mapping[str, str | None], by: CaptionBy, captioner: str | None = None
    ) -> builtins.list[str]:
        """Writes captions by the ids of photos; None and "" take one away. A person's replaces any; a file's replaces
        those of files and models, a model's those of models. Returns the ids of the photos that have what was written.
        """
        captioner = captioner and cleaned(captioner)
        async with self._database.write() as connection:
            await self._change(connection, dataset_id)
            done: builtins.list[str] = []
            for photo_id, text in captions.items():
                there = sa.and_(photos.c.dataset_id == dataset_id, photos.c.id == photo_id, _may_be_replaced(by))
                wrote = {"caption": text and cleaned(text), "caption_by": by, "captioner": captioner}
                wrote = wrote if text else dict.fromkeys(wrote)
                if (await connection.execute(sa.update(photos).where(there).values(wrote))).rowcount:
                    done.append(photo_id)
            return done

    @uninterrupted
    async def set_crop(self, dataset_id: str, photo_id: str, crop: builtins.list[int] | None) -> None:
        """Says what of a photo is trained; None for what the trainer chooses."""
        async with self._database.write() as connection:
            await self._change(connection, dataset_id)
            there = (photos.c.dataset_id == dataset_id, photos.c.id == photo_id)
            await connection.execute(sa.update(photos).where(*there).values(crop=crop))

    @uninterrupted
    async def remove(self, dataset_id: str, photo_ids: Collection[str]) -> builtins.list[StoredFile]:
        """Removes photos. Their files have expired; they are returned for whoever removes their bytes at once."""
        async with self._database.write() as connection:
            await self._change(connection, dataset_id)
            named = sa.and_(photos.c.dataset_id == dataset_id, photos.c.id.in_(photo_ids))
            return await _delete_photos(connection, named, self._now())

    async def _change(self, connection: AsyncConnection, dataset_id: str) -> AnyRow | None:
        """Makes a dataset's version grow, and holds up others that would change it; None where there is none."""
        grown = sa.update(table).where(table.c.id == dataset_id)
        grown = grown.values(version=table.c.version + 1, changed_at=self._now()).returning(table)
        row: AnyRow | None = (await connection.execute(grown)).one_or_none()
        return row


def _counted() -> sa.Select[*tuple[Any, ...]]:
    """Selects datasets, each with what its photos amount to."""
    of = photos.c.dataset_id == table.c.id
    first = sa.select(photos.c.id).where(of).order_by(photos.c.place).limit(1)
    amounts = {
        "photos": sa.select(sa.func.count()).where(of),
        "captioned": sa.select(sa.func.count(photos.c.caption)).where(of),
        "size": sa.select(sa.func.coalesce(sa.func.sum(files.c.size), 0)).where(of, _OF_FILE),
        "first_photo_id": first,
    }
    return sa.select(table, *(query.scalar_subquery().label(name) for name, query in amounts.items()))


def _with_file() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(*_PHOTO, *_FILE).join(files, _OF_FILE)


def _may_be_replaced(by: CaptionBy) -> sa.ColumnElement[bool]:
    if by is CaptionBy.PERSON:
        return sa.true()
    weaker = (CaptionBy.MODEL,) if by is CaptionBy.MODEL else (CaptionBy.MODEL, CaptionBy.FILE)
    return sa.or_(photos.c.caption.is_(None), photos.c.caption_by.in_(weaker))


async def _delete_photos(connection: AsyncConnection, which: sa.ColumnElement[bool], now: float) -> list[StoredFile]:
    """Removes the rows of photos, and lets their files expire."""
    gone = (await connection.execute(sa.delete(photos).where(which).returning(photos.c.file_id))).scalars().all()
    expired = sa.update(files).where(files.c.id.in_(gone)).values(expires_at=now)
    rows = (await connection.execute(expired.returning(files))).all()
    return [StoredFile(**row._mapping) for row in rows]


def _free_name(name: str, taken: Collection[str]) -> str:
    before, dot, suffix = name.rpartition(".")
    numbered = (f"{before} ({n}).{suffix}" if dot else f"{name} ({n})" for n in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def _as_photo(row: AnyRow) -> DatasetPhoto:
    by = row.caption_by
    return DatasetPhoto(**{**row._mapping, "caption_by": by and CaptionBy(by)})
