"""What a training would make of a dataset, told before it and for nothing: no GPU, no photo decoded again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.responses import Response

from tintype import catalog
from tintype.catalog import EndpointInput
from tintype.catalog.custom_models import MakesModel
from tintype.catalog.ideogram_custom_models import LEAST_IMAGES, MOST_IMAGES
from tintype.errors import BadRequest, Json
from tintype.store.records import DatasetPhoto
from tintype.web import dataset_schema as schema
from tintype.web.body import query_body
from tintype.web.dataset_archive import dataset_of, dataset_url, note_of
from tintype.web.operation import answers
from tintype.web.responses import json_response
from tintype.web.services import Call

#: What an input says about its dataset, and how a dataset calls it.
_OPTIONS = {
    "trigger_phrase": "trigger",
    "default_caption": "default_caption",
    "force_default_caption": "force_default_caption",
    "subject_crop": "subject_crop",
}
_QUERY = {"endpoint_id": str, "strangers": bool, "trigger_phrase": str, "default_caption": str}
_FINDINGS = {
    "smaller than": "small",
    "blurred": "blurred",
    "under-exposed": "dark",
    "over-exposed": "bright",
    "hardly anything": "empty",
}


def training_options(input: EndpointInput) -> Json:
    """Says for a dataset what an input of a training asks of it."""
    options = {ours: getattr(input, name) for name, ours in _OPTIONS.items() if hasattr(input, name)}
    return options | ({"count": (LEAST_IMAGES, MOST_IMAGES)} if isinstance(input, MakesModel) else {})


@answers(schema.ReportAnswer, query=_QUERY)
async def report(call: Call) -> Response:
    """Answers `GET /v1/datasets/{id}/report`: what a training with these inputs would make of it."""
    dataset = await dataset_of(call, call.params["id"])
    given = dict(query_body(call.http.query_params).value)
    name = str(given.pop("endpoint_id", "") or catalog.ENDPOINTS[0].id)
    measures = str(given.pop("strangers", "")).lower() in ("1", "true")
    endpoint = catalog.get(name)
    if endpoint.kind != "training":
        raise BadRequest(f"{name[:200]} trains nothing.", remedy="Name the endpoint of a training as endpoint_id.")
    input = endpoint.parse({**given, "images_data_url": dataset_url(call.origin, dataset.id)})
    photos = await call.store.datasets.photos(dataset.id)
    answer = schema.ReportAnswer(
        dataset_id=dataset.id,
        version=dataset.version,
        endpoint_id=endpoint.id,
        strangers="not_measured",
        problem="There are no photos in it yet.",
        photos=[],
        report=None,
    )
    if photos:
        told = await call.services.photos.ask(
            "report", photos=[*map(_as_kept, photos)], options=training_options(input)
        )
        answer.problem, answer.report = told["problem"], told["report"]
        answer.strangers, strangers = call.services.strangers.among(dataset.id, photos, measure=measures)
        answer.photos = _marks(photos, told["copies"], told["report"]["alike"], strangers)
    return json_response(answer.model_dump(mode="json"))


def _as_kept(photo: DatasetPhoto) -> Json:
    note = note_of(photo)
    said = {"caption": note.caption, "by": note.by, "captioner": note.captioner, "crop": note.crop}
    return {"name": photo.name, "measured": photo.measured, "note": said}


def _marks(
    photos: list[DatasetPhoto], copies: dict[str, str], alike: list[list[str]], strangers: Collection[str]
) -> list[schema.PhotoMarks]:
    ids = {photo.name: photo.id for photo in photos}
    marked = []
    for photo in photos:
        near = [other for pair in alike if photo.name in pair for other in pair if other != photo.name]
        marks: list[Any] = ["copy"] if photo.name in copies else []
        marks += ["alike"] if near else []
        marks += ["stranger"] if photo.id in strangers else []
        subject = photo.measured["subject"]
        marks += ["no_face"] if subject["kind"] != "face" else ["several_people"] if subject["others"] else []
        found = " ".join(photo.measured["findings"])
        marks += [mark for words, mark in _FINDINGS.items() if words in found]
        marked.append(
            schema.PhotoMarks(
                photo_id=photo.id,
                name=photo.name,
                marks=marks,
                copy_of=ids.get(copies.get(photo.name, "")),
                alike=[ids[name] for name in near],
            )
        )
    return marked
