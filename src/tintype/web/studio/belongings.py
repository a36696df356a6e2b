"""What a person has here: LoRAs, custom models, files, keys, and what all of it took."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response

from tintype import catalog
from tintype.files import public_url, render
from tintype.store.records import Outcome, Request
from tintype.store.usage import Which
from tintype.web import custom_models
from tintype.web.services import Call
from tintype.web.studio.models import uses_of
from tintype.web.studio.page import page, show, time_in

_PAGE = 50  # things
_DAY = 86400.0
_DAYS = 30  # of usage that are shown


@page
async def list_loras(call: Call) -> Response:
    """Answers `GET /loras`: every LoRA that was trained here, from which run, and where it can be used."""
    found = await call.store.requests.list(
        kind="training", outcome=Outcome.OK, owner=call.owner, limit=_PAGE + 1, before=time_in(call, "before")
    )
    loras = [_lora(call, request) for request in found[:_PAGE] if request.output]
    return await show(call, "loras.html", loras=loras, older=_older(found))


def _lora(call: Call, request: Request) -> dict[str, Any]:
    output: dict[str, Any] = render(request.output, call.origin)
    endpoint, given = catalog.find(request.endpoint_id), request.input
    return {
        "request": request,
        "trigger": given.get("trigger_phrase") or given.get("trigger_word") or "",
        "file": output.get("diffusers_lora_file"),
        "model_id": output.get("model_id"),
        "uses": uses_of(endpoint) if endpoint else [],
    }


@page
async def list_custom_models(call: Call) -> Response:
    """Answers `GET /custom-models`."""
    found = await call.store.models.list(owner=call.owner, limit=_PAGE + 1, before=time_in(call, "before"))
    models = [custom_models.describe(call, model) for model in found[:_PAGE]]
    return await show(call, "custom_models.html", models=models, older=_older(found))


@page
async def list_files(call: Call) -> Response:
    """Answers `GET /files`: what was uploaded and made, and how much of the room it takes."""
    found = await call.store.files.list(owner=call.owner, limit=_PAGE + 1, before=time_in(call, "before"))
    return await show(
        call,
        "files.html",
        files=[(file, public_url(call.origin, file.id, file.file_name)) for file in found[:_PAGE]],
        older=_older(found),
        held=await call.store.files.bytes_of(call.key_id),
        most=call.settings.limits.stored_bytes,
    )


@page
async def list_keys(call: Call) -> Response:
    """Answers `GET /keys`: all of them for an ADMIN key, the person's own for any other."""
    may_all = await call.store.keys.is_admin(call.key_id)
    keys = [key for key in await call.store.keys.list() if may_all or key.owner == call.owner]
    keys.sort(key=lambda key: (key.revoked_at is not None, -key.created_at))
    return await show(call, "keys.html", keys=keys, may_all=may_all)


@page
async def show_usage(call: Call) -> Response:
    """Answers `GET /usage`: the last thirty days by model, and by day."""
    now = time.time()
    which = Which("" if await call.store.keys.is_admin(call.key_id) else call.owner)
    first = now - _DAYS * _DAY
    sums = await call.store.usage.sums([(first, now)], which)
    spans = [(first + day * _DAY, first + (day + 1) * _DAY) for day in range(_DAYS)]
    by_day = [0] * _DAYS
    for one in await call.store.usage.sums(spans, which):
        by_day[one.span] += one.requests
    lines = [
        {"sum": one, "price": (price := call.services.price_of(one.endpoint_id)), "cost": one.units * price.price}
        for one in sums
    ]
    return await show(
        call, "usage.html", lines=lines, total=sum(line["cost"] for line in lines), by_day=by_day, spans=spans
    )


def _older(found: list[Any]) -> float | None:
    """Returns where the next page of a list begins, which was read with one more than a page has."""
    at: float | None = found[_PAGE - 1].created_at if len(found) > _PAGE else None
    return at
