"""Uploads in parts: what arrived stays on disk, so a long upload survives a restart of the server.

Each upload is a folder with `upload.json` and one file per part, named by number and digest. A part that is sent again
replaces the earlier one; parts may come in any order and at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio.to_thread

from tintype.errors import BadRequest, Json, NotFound
from tintype.files.disk import check_room, writing
from tintype.files.objects import new_incoming, sync_folder
from tintype.files.spool import Spool, check_size
from tintype.files.urls import is_file_id, new_file_id

MOST_PARTS = 10_000
STALE_SECONDS = 24 * 3600.0  # after which an upload that nobody goes on with is forgotten
_RECORD = "upload.json"
_REMEDY = "Raise TINTYPE_MAX_UPLOAD_BYTES on the server."


@dataclass(frozen=True)
class Upload:
    """An upload that was begun. `id` is a capability: whoever knows it may add parts."""

    id: str
    file_id: str
    file_name: str
    content_type: str
    key_id: str
    created_at: float
    lifetime: float | None = None  # seconds from completion until the file expires
    acl: Json | None = None  # who may read the file; None: whoever knows its URL


class Uploads:
    """All unfinished uploads, below one folder."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._keeping = asyncio.Lock()  # parts come at the same time, and two tries at one part may

    @property
    def spool_folder(self) -> Path:
        """Tells where anything incoming is written before it has its place."""
        return self._folder / "incoming"

    def spool(self) -> Spool:
        """Begins a new incoming file within the upload limit."""
        return Spool(self.spool_folder, limit=self._max_bytes, remedy=_REMEDY)

    def check_size(self, size: int) -> None:
        """Raises PayloadTooLarge for a file larger than one may be."""
        check_size(size, self._max_bytes, _REMEDY)

    def begin(
        self, *, file_name: str, content_type: str, key_id: str, lifetime: float | None = None, acl: Json | None = None
    ) -> Upload:
        """Begins an upload with the id its file will have. Raises StorageFull."""
        upload = Upload(new_file_id(), new_file_id(), file_name, content_type, key_id, time.time(), lifetime, acl)
        folder = self._folder / upload.id
        try:
            with writing(self._folder):
                folder.mkdir(parents=True)
                with (folder / _RECORD).open("w") as record:
                    json.dump(asdict(upload), record)
                    record.flush()
                    os.fsync(record.fileno())
                sync_folder(folder)
                sync_folder(self._folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return upload

    def find(self, upload_id: str) -> Upload:
        """Finds an upload that was begun. Raises NotFound."""
        if is_file_id(upload_id):
            with contextlib.suppress(FileNotFoundError):
                return Upload(**json.loads((self._folder / upload_id / _RECORD).read_text()))
        raise NotFound("There is no such upload (any more).", remedy="Begin the upload again.")

    async def receive_part(
        self, upload: Upload, number: int, stream: AsyncIterable[bytes], count: Callable[[int], Awaitable[None]]
    ) -> str:
        """Keeps a part durably; returns its etag. `count` is told before how many bytes all parts will have, and may
        raise. Raises BadRequest, PayloadTooLarge, StorageFull."""
        if not 1 <= number <= MOST_PARTS:
            raise BadRequest(f"A part's number is between 1 and {MOST_PARTS}, not {number}.")
        spool = self.spool()
        try:
            await spool.receive(stream)
            async with self._keeping:
                size = spool.size + await anyio.to_thread.run_sync(self.size_without, upload, number)
                self.check_size(size)
                await count(size)
                await anyio.to_thread.run_sync(_keep_part, self._folder / upload.id, number, spool)
        finally:
            spool.discard()
        return spool.etag

    def size_without(self, upload: Upload, number: int) -> int:
        """Tells how many bytes of an upload are kept, one part aside."""
        parts = (self._folder / upload.id).glob("part-*")
        return sum(path.stat().st_size for path in parts if _number_of(path) != number)

    def assemble(self, upload: Upload, etags: Mapping[int, str]) -> Path:
        """Joins the named parts in the order of their numbers. Raises BadRequest for missing and other ones."""
        folder = self._folder / upload.id
        kept = {_number_of(path): path for path in folder.glob("part-*")}
        for number in sorted(etags):
            if number not in kept:
                raise BadRequest(f"Part {number} was not received.", remedy="Send it again, then complete.")
            if not kept[number].name.endswith(etags[number].removeprefix("W/").strip('"') or "?"):
                raise BadRequest(f"Part {number} is not the one with that etag.", remedy="Send it again.")
        if kept and not etags:
            raise BadRequest("No parts were named.", remedy='Send {"parts": [{"partNumber": 1, "etag": "…"}, …]}.')
        handle, path = new_incoming(self.spool_folder, "whole-")
        try:
            check_room(folder, sum(kept[number].stat().st_size for number in etags))
            with writing(folder), os.fdopen(handle, "wb") as whole:
                for number in sorted(etags):
                    with kept[number].open("rb") as part:
                        shutil.copyfileobj(part, whole, 1024 * 1024)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def discard_parts(self, upload: Upload) -> None:
        """Forgets the bytes of a completed upload but not the upload: its completion may be asked for again."""
        for path in (self._folder / upload.id).glob("part-*"):
            path.unlink(missing_ok=True)

    def discard_stale(self, older_than: float) -> int:
        """Forgets uploads and incoming files untouched for so many seconds. Returns how many."""
        oldest = time.time() - older_than
        stale = 0
        for path in [*self._folder.glob("*"), *self.spool_folder.glob("*")]:
            if path == self.spool_folder:
                continue
            with contextlib.suppress(OSError):  # it went away by itself
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    stale += 1
        return stale


def _number_of(part: Path) -> int:
    return int(part.name.split("-")[1])


def _keep_part(folder: Path, number: int, spool: Spool) -> None:
    kept = folder / f"part-{number:05}-{spool.etag.strip(chr(34))}"
    try:
        with writing(folder):
            os.replace(spool.path, kept)
    except FileNotFoundError:
        raise NotFound("This upload was removed.", remedy="Begin the upload again.") from None
    for path in folder.glob(f"part-{number:05}-*"):
        if path != kept:
            path.unlink(missing_ok=True)
    sync_folder(folder)
