"""Custom models over HTTP: listed, shown, renamed, archived, deleted, and refused where they cannot be used.

A model that belongs to another key is answered like one that was never there.
"""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import Response

from tintype.catalog.custom_models import ModelStatus, UsesModel, checked_name, unknown_model
from tintype.errors import BadRequest, InputError, Json, NotFound, about_input
from tintype.files import render
from tintype.store.records import CustomModel
from tintype.web.body import json_object
from tintype.web.operation import answers
from tintype.web.responses import json_response
from tintype.web.services import Call

_USUAL, _MOST = 50, 1000  # models in one answer
_MODEL = {
    **dict.fromkeys(("model_id", "name", "custom_model_uri", "request_id"), str),
    **{"status": ModelStatus, "error": str | None, "is_available_for_generation": bool, "files": dict[str, Any]},
    **{"created_at": float, "ended_at": float | None, "deleted_at": float | None},
}


async def usable_model(call: Call, input: UsesModel) -> CustomModel:
    """Finds the model that an input names. Raises InputError at model_id for one that cannot be used."""
    model = await call.store.models.find(input.model_id, owner=call.owner)
    if model is None:
        raise unknown_model(input.model_id)
    model.reference.usable_lora()
    return model


@answers({"models": [_MODEL], "next": float | None}, query={"limit": int, "before": float, "status": ModelStatus})
async def list_models(call: Call) -> Response:
    """Answers `GET /v1/custom-models`: newest first. `before` takes the `next` of the answer before."""
    given = call.http.query_params
    limit = _number(given.get("limit") or str(_USUAL), "limit")
    if limit is None or not 1 <= limit <= _MOST or limit != int(limit):
        raise BadRequest(f"limit has to be a whole number from 1 to {_MOST}.")
    models = await call.store.models.list(
        owner=call.owner,
        status=_status(given.get("status")),
        limit=int(limit),
        before=_number(given.get("before"), "before"),
    )
    more = models[-1].created_at if len(models) == limit else None
    return json_response({"models": [describe(call, model) for model in models], "next": more})


@answers(_MODEL)
async def show_model(call: Call) -> Response:
    """Answers `GET /v1/custom-models/{id}`; a deleted one answers too."""
    return _answer(call, await call.store.models.find(call.params["id"], owner=call.owner))


@answers(_MODEL, body={"name": str})
async def rename_model(call: Call) -> Response:
    """Answers `PATCH /v1/custom-models/{id}` with {"name": …}: the display name alone, not the URI."""
    name = (await json_object(call)).get("name")
    with about_input("name"):
        if not isinstance(name, str):
            raise InputError('Send {"name": "…"}.')
        try:
            name = checked_name(name)
        except ValueError as problem:
            raise InputError(str(problem)) from None
    return _answer(call, await call.store.models.rename(call.params["id"], name, owner=call.owner))


@answers(_MODEL)
async def archive_model(call: Call) -> Response:
    """Answers `POST /v1/custom-models/{id}/archive`: hidden, files kept."""
    return _answer(call, await call.store.models.archive(call.params["id"], owner=call.owner))


@answers(_MODEL)
async def delete_model(call: Call) -> Response:
    """Answers `DELETE /v1/custom-models/{id}`: the files of its training are gone, the id answers ARCHIVED."""
    model, files = await call.store.models.delete(call.params["id"], owner=call.owner) or (None, [])
    for file in files:  # what a crash leaves is removed by housekeeping, for the files have expired
        await call.services.remove_file(file)
    return _answer(call, model)


def describe(call: Call, model: CustomModel) -> Json:
    """Describes a model as it is answered; `files` have the names they have in the training's output."""
    return {
        "model_id": model.id,
        "name": model.name,
        "status": model.status,
        "error": model.reason or None,
        "custom_model_uri": model.uri,
        "request_id": model.request_id,
        "is_available_for_generation": model.status is ModelStatus.COMPLETED,
        "created_at": model.created_at,
        "ended_at": model.ended_at,
        "deleted_at": model.deleted_at,
        "files": render(model.files, call.origin),
    }


def _answer(call: Call, model: CustomModel | None) -> Response:
    if model is None:
        raise NotFound("Custom model not found.", remedy="GET /v1/custom-models lists your models.")
    return json_response(describe(call, model))


def _status(given: str | None) -> ModelStatus | None:
    if not given:
        return None
    try:
        return ModelStatus(given.upper())
    except ValueError:
        raise BadRequest(f"{given[:50]!r} is no status.", remedy=f"There are: {', '.join(ModelStatus)}.") from None


def _number(given: str | None, name: str) -> float | None:
    if not given:
        return None
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRequest(f"{name} has to be a number.")
    return number
