"""Datasets over HTTP: begun, listed, renamed, reported on, taken along as an archive, and deleted.

A dataset that belongs to another key is answered like one that was never there.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from tintype.errors import BadRequest
from tintype.files import safe_file_name
from tintype.store.records import StoredDataset
from tintype.web import dataset_schema as schema
from tintype.web.dataset_archive import dataset_of, dataset_url, packed_dataset
from tintype.web.operation import IDEMPOTENCY_KEY, answers, operation
from tintype.web.platform_schema import Paged, page_after
from tintype.web.services import Call


@operation()
async def list_datasets(call: Call, query: Paged) -> schema.DatasetsAnswer:
    """Answers `GET /v1/datasets`: the one that was changed last first."""
    found = await call.store.datasets.list(owner=call.owner, limit=query.limit + 1, offset=query.offset)
    described = [describe(call, dataset) for dataset in found[: query.limit]]
    return schema.DatasetsAnswer(datasets=described, **page_after(query, found))


@operation(status=201, headers=(IDEMPOTENCY_KEY,))
async def create_dataset(call: Call, body: schema.DatasetName) -> schema.Dataset:
    """Answers `POST /v1/datasets` with {"name": …}: begins an empty dataset."""
    return describe(call, await call.store.datasets.create(_name(body), call.key_id))


@operation()
async def show_dataset(call: Call) -> schema.Dataset:
    """Answers `GET /v1/datasets/{id}`."""
    return describe(call, await dataset_of(call, call.params["id"]))


@operation()
async def rename_dataset(call: Call, body: schema.DatasetName) -> schema.Dataset:
    """Answers `PATCH /v1/datasets/{id}` with {"name": …}."""
    dataset = await dataset_of(call, call.params["id"])
    await call.store.datasets.rename(dataset.id, _name(body))
    return describe(call, await dataset_of(call, dataset.id))


@operation()
async def delete_dataset(call: Call) -> schema.DatasetDeleted:
    """Answers `DELETE /v1/datasets/{id}`: photos, thumbnails and captions are gone. A training keeps what it was sent
    until its payloads are deleted."""
    dataset = await dataset_of(call, call.params["id"])
    photos = await call.store.datasets.photos(dataset.id)
    for file in await call.store.datasets.delete(dataset.id):
        await call.services.remove_file(file)  # what a crash leaves, housekeeping removes: it has expired
    call.services.strangers.forget(dataset.id, [photo.id for photo in photos])
    await call.store.payloads.scrub()
    receipt = [schema.DeletedPhoto(kind="photo", sha256=photo.sha256, size=photo.size) for photo in photos]
    return schema.DatasetDeleted(dataset_id=dataset.id, receipt=receipt)


@answers("application/zip")
async def download_dataset(call: Call) -> Response:
    """Answers `GET /v1/datasets/{id}/archive`: photos as they were sent, captions as text files beside them."""
    dataset = await dataset_of(call, call.params["id"])
    async with AsyncExitStack() as held:
        held.enter_context(call.services.limits.open_stream(call.owner))
        path = await held.enter_async_context(packed_dataset(call, dataset))
        name = f"{safe_file_name(dataset.name, default='dataset')}.zip"
        return _PackedResponse(FileResponse(path, media_type="application/zip", filename=name), held.pop_all())


class _PackedResponse(Response):
    """Sends an archive, and lets go of it afterwards, also where nobody has waited for it."""

    def __init__(self, sends: Response, held: AsyncExitStack) -> None:
        super().__init__()
        self._sends, self._held = sends, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await self._sends(scope, receive, send)


def describe(call: Call, dataset: StoredDataset) -> schema.Dataset:
    """Describes a dataset as it is answered."""
    url = dataset_url(call.origin, dataset.id)
    first = dataset.first_photo_id
    return schema.Dataset(
        dataset_id=dataset.id,
        name=dataset.name,
        url=url,
        version=dataset.version,
        photo_count=dataset.photos,
        captioned_count=dataset.captioned,
        size_bytes=dataset.size,
        thumbnail_url=None if first is None else f"{url}/photos/{first}/thumbnail",
        created_at=dataset.created_at,
        changed_at=dataset.changed_at,
    )


def _name(body: schema.DatasetName) -> str:
    name = body.name.strip()
    if not name or not name.isprintable():
        raise BadRequest("name is a line of text.")
    return name
