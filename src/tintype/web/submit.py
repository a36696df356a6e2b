"""Accepts requests: validated, their files settled, and kept durably before they are answered with an id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.custom_models import MakesModel, UsesModel
from tintype.catalog.endpoint import EndpointInput
from tintype.errors import Json
from tintype.files import internal_url, own_file
from tintype.files.disk import check_room
from tintype.store.records import CustomModel, NewModel, NewRequest, Request, Status
from tintype.web.auth import TOKEN_PARAMETER
from tintype.web.body import Body, json_body, query_body
from tintype.web.custom_models import usable_model
from tintype.web.data_uri_extractor import MOST_REST
from tintype.web.directions import directions, request_urls
from tintype.web.inputs import InputFiles
from tintype.web.options import Options, lifecycle_for, options_of
from tintype.web.responses import json_response
from tintype.web.services import Call
from tintype.web.webhook_sender import check_receiver

_LONGEST_AFFINITY = 1000  # characters


async def submit(call: Call) -> Response:
    """Answers `POST /{endpoint id}` on the queue."""
    request, _ = await accept(call, sync=False)
    return json_response(await describe_accepted(call, request))


async def describe_accepted(call: Call, request: Request) -> Json:
    """Describes a request that was accepted just now, and where to ask for it."""
    return {
        "status": Status.IN_QUEUE,
        "request_id": request.id,
        "gateway_request_id": request.id,
        "queue_position": await call.store.requests.position(request),
        **request_urls(call.queue_url, request),
        "logs": None,
        "metrics": {},
    }


async def endpoint_of(call: Call) -> Endpoint:
    """Finds the endpoint of a URL. Raises NotFound, saying what was probably meant."""
    name = call.params["endpoint"]
    if endpoint := catalog.find(name):
        return endpoint
    raise catalog.not_found(name, await directions(call.http, name))


async def accept(call: Call, *, sync: bool, body: Body | None = None) -> tuple[Request, str]:
    """Keeps the request that `call` makes, and names it in the response. Returns it with its digest, which is the
    same for a POST that is sent again. `body` is what was read already."""
    endpoint = await endpoint_of(call)
    call.services.limits.count_submit(call.owner)
    check_room(call.settings.data_dir, MOST_REST)  # for its row, and so that what runs already can end
    if body is not None:
        return await _keep(call, endpoint, body, sync=sync)
    if call.http.method == "GET":
        return await _keep(call, endpoint, query_body(call.http.query_params), sync=sync)
    async with json_body(call) as read:
        return await _keep(call, endpoint, read, sync=sync)


async def _keep(call: Call, endpoint: Endpoint, body: Body, *, sync: bool) -> tuple[Request, str]:
    options = options_of(call.http)
    lifecycle = await lifecycle_for(call)
    digest = _digest(call, body, options)
    request = await _left(call, digest) if sync else None
    if request is None:
        if options.webhook_url is not None:
            check_receiver(call.settings, options.webhook_url, call.services.is_behind_proxy)
        input = endpoint.parse(body.value)
        model = await usable_model(call, input) if isinstance(input, UsesModel) else None
        notes = (*_notes(endpoint, body.value), *await _keep_filter_on(call, input))
        files = InputFiles(call, body.spools)
        is_new = False
        try:
            await files.settle(input)
            loras = [lora.path for lora in getattr(input, "loras", ())]
            affinity = _resident(call, endpoint, loras, model, options)
            new = NewRequest(
                endpoint_id=endpoint.id,
                kind=endpoint.kind,
                input=input.model_dump(mode="json"),
                key_id=call.key_id,
                owner=call.owner,
                origin=call.origin,
                priority=options.priority,
                affinity=affinity[:_LONGEST_AFFINITY],
                coalesce_key=digest if endpoint.kind == "training" else None,
                idempotency_key=options.idempotency_key,
                digest=digest,
                retries=options.retries,
                start_deadline=options.start_deadline,
                sync=sync,
                webhook_url=options.webhook_url,
                max_queue_length=options.max_queue_length,
                # With sync_mode the images are in the output itself.
                store_io=options.store_io and not getattr(input, "sync_mode", False),
                file_ids=tuple(file.id for file in files.kept),
                file_lifetime=lifecycle.lifetime,
                file_acl=lifecycle.acl,
                tags=options.tags,
                units=0.0 if options.is_rehearsal else endpoint.price.units(input),
                is_rehearsal=options.is_rehearsal,
                operations=endpoint.operations(input),
                notes=notes,
                makes_model=NewModel(input.model_name) if isinstance(input, MakesModel) else None,
                model_id=model.id if model else None,
            )
            request, is_new = await call.store.requests.submit(new)
        finally:
            if not is_new:
                await files.forget()
    call.answer_as(request.id)
    return request, digest


async def _left(call: Call, digest: str) -> Request | None:
    """Finds the run that this is a repetition of: one whose connection has broken just now."""
    request_id = call.services.sync_runs.take_up(digest)
    request = None if request_id is None else await call.store.requests.get(request_id)
    return None if request is None or request.cancel_requested else request


def _resident(
    call: Call, endpoint: Endpoint, adapters: Sequence[str], model: CustomModel | None, options: Options
) -> str:
    """Names what a request would like to find in memory: its base, and the LoRAs that it names or that its model is. A
    runner hint stands for them: the URL of a LoRA, or any name that several requests share."""
    if hint := options.hint:
        own = own_file(hint, call.is_own_host)
        adapters = [internal_url(*own) if own else hint]
    elif endpoint.kind != "inference":
        return ""
    elif model is not None:
        adapters = [*adapters, model.reference.lora or ""]
    base = f"rehearsal:{endpoint.base}" if options.is_rehearsal else endpoint.base
    return " ".join([base, *adapters])


def _digest(call: Call, body: Body, options: Options) -> str:
    """Makes a digest that is the same for a POST that is sent again: same key, path, query and body."""
    query = [(name, value) for name, value in call.http.query_params.multi_items() if name != TOKEN_PARAMETER]
    parts = (call.key_id, call.params["endpoint"].strip("/"), str(query), body.digest, str(options.is_rehearsal))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


async def _keep_filter_on(call: Call, input: EndpointInput) -> Sequence[str]:
    """Leaves the content filter on where the caller's key may not switch it off, and says so."""
    if getattr(input, "enable_safety_checker", True) or await call.store.keys.is_admin(call.key_id):
        return ()
    setattr(input, "enable_safety_checker", True)  # noqa: B010 - only some inputs have it
    return ("Only an ADMIN key may switch the content filter off: enable_safety_checker: false was ignored.",)


def _notes(endpoint: Endpoint, body: Mapping[str, object]) -> tuple[str, ...]:
    notes = []
    for name, nearest in endpoint.unknown_fields(body):
        shown = "".join(character if character.isprintable() else "?" for character in name[:60])
        hint = f" Did you mean {nearest}?" if nearest else ""
        notes.append(f"{shown!r} is not an input of {endpoint.id} and was ignored.{hint}")
    return tuple(notes)
