"""Accepts requests: validated, their files settled, and kept durably before they are answered with an id."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.responses import Response

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.custom_models import MakesModel, UsesModel
from tintype.errors import Json, NotFound
from tintype.files import internal_url, own_file
from tintype.store.records import CustomModel, NewModel, NewRequest, Request, Status
from tintype.web import tokens
from tintype.web.answers import answer
from tintype.web.body import Body, json_body, query_body
from tintype.web.custom_models import usable_model
from tintype.web.inputs import InputFiles
from tintype.web.options import Options, options_of
from tintype.web.receivers import check_receiver
from tintype.web.services import Call

_MOST_NOTES = 20


async def submit(call: Call) -> Response:
    """`POST /{endpoint id}` on the queue."""
    request, _ = await accept(call, sync=False)
    return answer(
        {
            "status": Status.IN_QUEUE,
            "request_id": request.id,
            "gateway_request_id": request.id,
            "queue_position": await call.queue.position(request),
            **request_urls(call.queue_url, request),
            "logs": None,
            "metrics": {},
        }
    )


def request_urls(queue_url: str, request: Request) -> dict[str, str]:
    """Where to ask for a request: the two-segment form that fal's clients rebuild by themselves."""
    base = f"{queue_url}/{'/'.join(request.endpoint_id.split('/')[:2])}/requests/{request.id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def endpoint_of(call: Call) -> Endpoint:
    """Raises NotFound, naming the nearest endpoint there is."""
    name = call.params["endpoint"]
    endpoint = catalog.find(name)
    if endpoint is not None:
        return endpoint
    known = [known for endpoint in catalog.ENDPOINTS for known in (endpoint.id, *endpoint.aliases)]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(known)}."
    raise NotFound(f"Application {name[:200]!r} not found.", remedy=hint)


async def accept(call: Call, *, sync: bool) -> tuple[Request, bool]:
    """Keeps the request that `call` makes; whether it is a new one. Names it in `call.request_id`."""
    endpoint = endpoint_of(call)
    if call.http.method == "GET":
        return await _keep(call, endpoint, query_body(call.http.query_params), sync=sync)
    async with json_body(call) as body:
        return await _keep(call, endpoint, body, sync=sync)


async def _keep(call: Call, endpoint: Endpoint, body: Body, *, sync: bool) -> tuple[Request, bool]:
    options = options_of(call.http)
    call.digest = _digest(call, body)
    left = await _left(call) if sync else None
    if left is not None:
        call.request_id = left.id
        return left, False
    if options.webhook_url is not None:
        check_receiver(call.settings, options.webhook_url)
    order = endpoint.parse(body.value)
    model = await usable_model(call, order) if isinstance(order, UsesModel) else None
    files = InputFiles(call, body.spools)
    is_new = False
    try:
        given = await files.settle(order)
        new = _new(call, endpoint, body, given, options, sync=sync)
        makes = NewModel(order.model_name) if isinstance(order, MakesModel) else None
        new = replace(
            new,
            affinity=_resident(endpoint, files.settled, model, options.hint)[:1000],
            file_ids=tuple(file.id for file in files.kept),
            model_id=model.id if model else None,
            makes_model=makes,
        )
        request, is_new = await call.queue.submit(new)
    finally:
        if not is_new:
            await files.forget()
    call.request_id = request.id
    return request, is_new


async def _left(call: Call) -> Request | None:
    """The run that this is a repetition of: one whose connection has broken just now."""
    request_id = call.services.callers.take_up(call.digest)
    request = None if request_id is None else await call.queue.get(request_id)
    return None if request is None or request.cancel_requested else request


def _new(call: Call, endpoint: Endpoint, body: Body, given: Json, options: Options, *, sync: bool) -> NewRequest:
    return NewRequest(
        endpoint_id=endpoint.id,
        kind=endpoint.kind,
        input=given,
        key_id=call.key_id,
        origin=call.origin,
        priority=options.priority,
        coalesce_key=call.digest if endpoint.kind == "training" else None,
        idempotency_key=options.idempotency_key,
        digest=call.digest,
        retries=options.retries,
        start_deadline=options.start_deadline,
        sync=sync,
        webhook_url=options.webhook_url,
        max_queue_length=options.max_queue_length,
        store_io=options.store_io and not given.get("sync_mode"),  # its pictures are in the output itself
        file_lifetime=options.files.lifetime,
        file_acl=options.files.acl,
        tags=options.tags,
        notes=_notes(endpoint, body.value),
    )


def _resident(endpoint: Endpoint, adapters: Sequence[str], model: CustomModel | None, hint: str) -> str:
    """What a request would like to find in memory: its base, and the LoRAs that it names or that its model is. A
    runner hint stands for them: the URL of a LoRA, or any name that several requests share."""
    if hint:
        own = own_file(hint)
        adapters = [internal_url(*own) if own else hint]
    elif endpoint.kind != "drawing":
        return ""
    elif model is not None:
        adapters = [*adapters, model.reference.lora or ""]
    return " ".join([endpoint.base, *adapters])


def _digest(call: Call, body: Body) -> str:
    """The same for a POST that is sent again: same key, path, query and body."""
    query = [(name, value) for name, value in call.http.query_params.multi_items() if name != tokens.PARAMETER]
    parts = (call.key_id, call.params["endpoint"].strip("/"), str(query), body.digest)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _notes(endpoint: Endpoint, body: Mapping[str, object]) -> tuple[str, ...]:
    notes = []
    for name, nearest in endpoint.unknown_fields(body)[:_MOST_NOTES]:
        shown = "".join(character if character.isprintable() else "?" for character in name[:60])
        hint = f" Did you mean {nearest}?" if nearest else ""
        notes.append(f"{shown!r} is not an input of {endpoint.id} and was ignored.{hint}")
    return tuple(notes)
