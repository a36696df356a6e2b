"""The pages of datasets: which there are, and one with its photos, which a script shows and edits by the API."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import Response

from tintype import catalog
from tintype.errors import Json
from tintype.web import dataset_archive, datasets
from tintype.web.services import Call
from tintype.web.studio.page import page, show

_MOST = 200  # datasets


@page
async def list_datasets(call: Call) -> Response:
    """Answers `GET /datasets`."""
    return await show(call, "datasets.html", datasets=await datasets_of(call))


@page
async def show_dataset(call: Call) -> Response:
    """Answers `GET /datasets/{id}`."""
    dataset = await dataset_archive.dataset_of(call, call.params["id"])
    trainers = [endpoint for endpoint in catalog.ENDPOINTS if endpoint.kind == "training"]
    return await show(call, "dataset.html", dataset=datasets.describe(call, dataset), trainers=trainers)


async def datasets_of(call: Call) -> list[Json]:
    """Describes the caller's datasets, the one that was changed last first."""
    found = await call.store.datasets.list(owner=call.owner, limit=_MOST)
    described = [datasets.describe(call, dataset).model_dump() for dataset in found]
    return [{**one, "thumbnail": urlsplit(one["thumbnail_url"] or "").path} for one in described]
