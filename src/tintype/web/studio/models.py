"""The front page, the list of models, and each model's playground and API page."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from starlette.responses import Response

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.custom_models import MakesModel, UsesModel
from tintype.models.registry import family_specs
from tintype.store.records import Status
from tintype.web import llms, manual, pages
from tintype.web.operation import answers
from tintype.web.services import Call
from tintype.web.studio.datasets import datasets_of
from tintype.web.studio.form import form_of_input
from tintype.web.studio.page import page, show, wants_page
from tintype.web.submit import endpoint_of

_TEXT = ("text/html", "text/markdown", "text/plain")
_CATEGORIES = {"training": "Train", "text-to-image": "Generate", "image-to-image": "Begin with an image"}
_SHOWN_RUNS = 5  # latest requests on a page


@answers((pages.FRONT_JSON, *_TEXT))
async def front(call: Call) -> Response:
    """Answers `GET /`: what is here and what is running, for people, programs and assistants."""
    return await (_front_page(call) if wants_page(call) else manual.front(call))


@answers(_TEXT)
async def list_models(call: Call) -> Response:
    """Answers `GET /models`: every model by category, and whether it is ready."""
    return await (_models_page(call) if wants_page(call) else manual.site_text(call))


@answers(_TEXT)
async def playground(call: Call) -> Response:
    """Answers `GET /models/{endpoint id}`: a form for people, what it takes and returns for everybody else."""
    return await (_playground_page(call) if wants_page(call) else manual.model_text(call))


@answers(_TEXT)
async def api(call: Call) -> Response:
    """Answers `GET /models/{endpoint id}/api`: the sections of its manual, with code that runs as it is printed."""
    return await (_api_page(call) if wants_page(call) else manual.model_text(call))


@page
async def _front_page(call: Call) -> Response:
    latest = await call.store.requests.list(owner=call.owner, limit=8)
    running = await call.store.requests.unfinished(owner=call.owner)
    trainers = [endpoint for endpoint in catalog.ENDPOINTS if endpoint.kind == "training"]
    return await show(
        call,
        "front.html",
        latest=latest,
        running=running,
        trainers=trainers,
        lanes=await lanes_of(call),
        is_first_visit=not latest,
    )


@page
async def _models_page(call: Call) -> Response:
    groups: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in catalog.ENDPOINTS:
        groups[_CATEGORIES.get(endpoint.category, endpoint.category.capitalize())].append(endpoint)
    return await show(
        call,
        "models.html",
        groups=groups,
        bases={spec.name: spec.title for spec in family_specs()},
        **await _readiness(call),
    )


@page
async def _playground_page(call: Call) -> Response:
    endpoint = await endpoint_of(call)
    latest = await call.store.requests.list(owner=call.owner, endpoint_id=endpoint.id, limit=_SHOWN_RUNS)
    return await show(
        call,
        "playground.html",
        endpoint=endpoint,
        fields=form_of_input(endpoint.input),
        latest=latest,
        datasets=await datasets_of(call) if endpoint.kind == "training" else [],
        price=call.services.price_of(endpoint.id),
        uses=uses_of(endpoint),
        **await _readiness(call),
    )


@page
async def _api_page(call: Call) -> Response:
    endpoint = await endpoint_of(call)
    text = llms.describe(endpoint, call.params["endpoint"], call.origin)
    return await show(call, "api.html", endpoint=endpoint, sections=_sections(text))


def _sections(text: str) -> list[dict[str, Any]]:
    """Takes a manual in Markdown apart at its second headings; HTML in it is text."""
    from markdown_it import MarkdownIt  # not before somebody asks
    from markupsafe import Markup

    parts = [part.partition("\n") for part in text.split("\n## ")[1:]]

    def rendered(text: str) -> Markup:
        html = MarkdownIt("commonmark", {"html": False}).render(text)
        return Markup(html.replace("<pre>", '<pre tabindex="0">'))  # what scrolls is reached by keyboard

    return [
        {"title": title, "anchor": title.lower().replace(" ", "-"), "html": rendered(rest)} for title, _, rest in parts
    ]


def uses_of(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Lists the endpoints that can use what a training makes, with the place of its LoRA or model in their forms."""
    if endpoint.kind != "training":
        return []
    usable = [one for one in catalog.ENDPOINTS if one.kind == "inference" and one.base == endpoint.base]
    makes_model = issubclass(endpoint.input, MakesModel)
    trigger = next((name for name in ("trigger_phrase", "trigger_word") if name in endpoint.input.model_fields), "")
    by_id = [one for one in usable if makes_model and issubclass(one.input, UsesModel)]
    with_loras = [one for one in usable if "loras" in one.input.model_fields]
    return [
        {
            "id": one.id,
            "title": one.title,
            "model": "model_id" if one in by_id else "",
            "lora": "" if one in by_id else "loras.0.path",
            "trigger": trigger,
        }
        for one in (*by_id, *with_loras)
    ]


async def _readiness(call: Call) -> dict[str, Any]:
    """Tells of each lane how many devices work on it and how many requests wait."""
    lanes = await lanes_of(call)
    unfinished = await call.store.requests.unfinished(owner=call.owner)
    waiting = {
        kind: sum(one.kind == kind and one.status is Status.IN_QUEUE for one in unfinished)
        for kind in ("training", "inference")
    }
    alive = {kind: [lane for lane in lanes if lane["lane"] == kind and lane["alive"]] for kind in waiting}
    return {"waiting": waiting, "alive": alive}


async def lanes_of(call: Call) -> list[dict[str, Any]]:
    """Tells of each lane of each device what it does, and whether it was heard of lately."""
    workers = pages.current(await call.store.workers.list())
    return [pages.lane_of(worker, time.time(), 2 * call.settings.heartbeat_seconds) for worker in workers]
