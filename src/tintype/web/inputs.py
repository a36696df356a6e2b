"""The files an input names: found by their type, checked as far as is possible without the network, and kept.

A long data URI becomes a file of this server here, so that what is queued stays small; a URL of this server becomes an
internal reference, so that the job reads it from storage.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import httpx
from pydantic import BaseModel

from tintype.catalog.fields import file_references, replace_file
from tintype.errors import FileDownloadError, FileTooLarge, InputError, Json, about_input, detail
from tintype.files import internal_url, new_file_id, own_file, safe_file_name
from tintype.files.acl import Decision
from tintype.files.addresses import is_plainly_private, parsed_url
from tintype.files.data_uri import is_data_uri, open_data_uri
from tintype.files.fetch import fetch_input, private_source, unknown_file
from tintype.files.formats import suffix_for, suffix_of_name
from tintype.files.spool import Spool
from tintype.files.urls import is_internal
from tintype.store.records import StoredFile
from tintype.web.access import is_own_host
from tintype.web.dataset_archive import HIDDEN, own_dataset, packed_dataset
from tintype.web.downloads import opened_until
from tintype.web.services import Call

Loc = tuple[str | int, ...]

_PIECE = 1024 * 1024
_KEPT_SECONDS = 30 * 86400.0  # how long a file that came as a data URI is kept, like the request it belongs to


@asynccontextmanager
async def local_copy(call: Call, url: str) -> AsyncIterator[Path]:
    """Fetches what a settled URL leads to; one at a time for each person, for it holds a thread meanwhile."""
    services, owner = call.services, call.owner
    incoming = services.uploads.spool_folder
    incoming.mkdir(parents=True, exist_ok=True)
    with services.limits.open_stream(owner), tempfile.TemporaryDirectory(dir=incoming) as folder:
        async with services.turn(f"fetching for {owner}"):
            path = await anyio.to_thread.run_sync(
                lambda: fetch_input(url, Path(folder), objects=services.objects, settings=services.settings)
            )
        yield path


class InputFiles:
    """Settles the files of one input. `kept` are the new ones; `forget` those when no request came of it."""

    def __init__(self, call: Call, spools: Mapping[str, Spool]) -> None:
        self._call = call
        self._spools = spools
        self.kept: list[StoredFile] = []

    async def settle(self, input: BaseModel) -> None:
        """Puts into the input the URLs that are queued. Raises InputError with everything wrong with its files."""
        references = list(file_references(input))
        used = {url for _, url in references}
        problems = [_misplaced(loc) for loc, text in _texts(input) if text in self._spools and text not in used]
        for path, url in references:
            try:
                with about_input(*path):
                    replace_file(input, path, await self._settled(url.strip()))
            except InputError as problem:
                problems += problem.details
        if problems:
            raise InputError.from_details(problems)

    async def forget(self) -> None:
        """Removes what was kept for a request that is not there."""
        for file in self.kept:
            await self._call.services.remove_file(file)
        self.kept.clear()

    async def _settled(self, url: str) -> str:
        if url in self._spools:
            return await self._kept(self._spools[url])
        if is_data_uri(url):
            await anyio.to_thread.run_sync(_check_data_uri, url)
            return url
        dataset_id = own_dataset(url, self._call.is_own_host)
        if dataset_id is not None:
            return await self._snapshot(dataset_id)
        own = own_file(url, self._call.is_own_host)
        file = await self._call.store.files.find(own[0]) if own else None
        if file is not None:
            until = await opened_until(self._call, file, url)
            if not until and await self._call.store.files.decide(file, self._call.key_id) is not Decision.ALLOW:
                raise unknown_file(url)
            _check_size(file.size, self._call.settings.max_input_bytes)
            return internal_url(file.id, file.file_name, until=until)
        if is_internal(url):
            raise unknown_file(url)
        try:
            host = parsed_url(url).host
        except httpx.InvalidURL as problem:
            raise FileDownloadError(f"This is not a valid URL: {problem}.", given=url[:200]) from None
        if own is not None and is_own_host(self._call.settings, host):
            raise unknown_file(url)
        if not self._call.settings.allow_private_inputs and is_plainly_private(host):
            raise private_source(url[:200], host)
        return url

    async def _snapshot(self, dataset_id: str) -> str:
        """Keeps a dataset as it is now as an archive of its owner's, which goes with the request; returns its internal
        reference."""
        file_id, now = new_file_id(), time.time()
        dataset = await self._call.store.datasets.find(dataset_id, owner=self._call.owner)
        if dataset is None:
            raise FileDownloadError("There is no such dataset.", remedy="GET /v1/datasets lists yours.")
        async with packed_dataset(self._call, dataset) as path:
            _check_size(path.stat().st_size, self._call.settings.max_input_bytes)
            name = f"dataset-{dataset.id}-{dataset.version}.zip"
            size = await self._call.services.objects.put_path_async(f"{file_id}/{name}", path, move=True)
        ends, key_id = now + _KEPT_SECONDS, self._call.key_id
        file = StoredFile(file_id, name, "application/zip", size, now, expires_at=ends, key_id=key_id, acl=HIDDEN)
        await self._call.services.add_file(file)
        self.kept.append(file)
        return internal_url(file.id, file.file_name)

    async def _kept(self, spool: Spool) -> str:
        """Decodes a long data URI into storage; returns its internal reference."""
        file_id, now = new_file_id(), time.time()
        decoded = Spool(self._call.services.uploads.spool_folder, limit=self._call.settings.max_input_bytes)
        try:
            content_type, name = await anyio.to_thread.run_sync(_decode, spool.path, decoded)
            key_id = self._call.key_id
            file = StoredFile(
                file_id, name, content_type, decoded.size, now, expires_at=now + _KEPT_SECONDS, key_id=key_id
            )
            await self._call.services.objects.put_path_async(file.key, decoded.path, move=True)
        finally:
            decoded.discard()
        await self._call.services.add_file(file)
        self.kept.append(file)
        return internal_url(file.id, file.file_name)


def _decode(source: Path, target: Spool) -> tuple[str, str]:
    """Writes the bytes of the data URI in `source` to `target`; returns content type and file name."""
    with source.open("rb") as file:
        try:
            data = open_data_uri(iter(lambda: file.read(_PIECE), b""))
            head = b""
            for chunk in data.chunks:
                head = head or chunk[:512]
                target.write(chunk)
        except ValueError as problem:
            raise _undecodable(problem) from None
    target.finish()
    name = safe_file_name(data.file_name, default="data")
    if not suffix_of_name(name):
        name += suffix_for("", content_type=data.content_type, head=head)
    return data.content_type[:100], name


def _check_data_uri(url: str) -> None:
    try:
        for _ in open_data_uri([url.encode("utf-8", "replace")]).chunks:
            pass
    except ValueError as problem:
        raise _undecodable(problem) from None


def _undecodable(problem: ValueError) -> FileDownloadError:
    return FileDownloadError(str(problem), remedy="Encode the file again, or upload it.")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise FileTooLarge(
            f"This file is larger than {limit // (1024 * 1024)} MiB, the most that is taken as an input.",
            remedy="Send fewer or smaller files, or raise TINTYPE_MAX_INPUT_BYTES on the server.",
            ctx={"max_size": limit},
        )


def _misplaced(loc: Loc) -> Json:
    message = "A file of this size has no place here: this input is text."
    return detail(loc=loc, message=message, type_="sequence_too_long", ctx=None)


def _texts(value: object, loc: Loc = ("body",)) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name), (*loc, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, (*loc, index))
