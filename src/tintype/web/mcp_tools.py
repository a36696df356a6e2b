"""The tools of the MCP server: fal's eleven with their names and fields, and our own.

A tool is a function here; its parameters are its fields, and what it says of itself is what an assistant reads. None
does anything by itself that a handler of the HTTP API does.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.errors import BadRequest, Json, TintypeError, where
from tintype.files import render
from tintype.files.spool import Spool
from tintype.store.records import Outcome, Request, Status
from tintype.web import manual, mcp_files, openapi, platform, status
from tintype.web.body import Body
from tintype.web.mcp_call import Refusal, ToolCall, read
from tintype.web.mcp_datasets import DATASET_TOOLS
from tintype.web.responses import failure_body, to_json
from tintype.web.run import completed
from tintype.web.services import Call
from tintype.web.submit import accept, describe_accepted

Tool = Callable[..., Awaitable[Json]]
TOOLS: dict[str, Tool] = {}

WAIT_SECONDS = 45.0  # that run_model waits for a result, as fal's does
_POLL_SECONDS = {"inference": 3, "training": 15}
_MOST_LINES = 30  # of a log: the newest, so that an assistant is not told a training's whole story at every look
_LONGEST_RECIPE = 8 * 1024  # bytes of an input that is repeated
_ID_IN_URL = re.compile(r"/requests/([A-Za-z0-9-]{1,64})(?=[/?]|$)")


def _tool(function: Tool) -> Tool:
    TOOLS[function.__name__] = function
    return function


def describe(tool: Tool) -> Json:
    """Describes a tool as MCP lists it."""
    said = " ".join((inspect.getdoc(tool) or "").split())
    return {"name": tool.__name__, "description": said, "inputSchema": _fields(tool).model_json_schema()}


@functools.cache
def _fields(tool: Tool) -> type[BaseModel]:
    """Makes a model of a tool's parameters, without the call itself."""
    _, *parameters = inspect.signature(tool, eval_str=True).parameters.values()
    fields: dict[str, Any] = {
        one.name: (one.annotation, ... if one.default is inspect.Parameter.empty else one.default) for one in parameters
    }
    return create_model(tool.__name__, **fields)


async def call_tool(call: Call, tool: Tool, arguments: object, spools: Mapping[str, Spool]) -> tuple[Json, bool]:
    """Calls a tool. Returns its answer, or the body of an error, and which of the two it is."""
    try:
        given = _fields(tool).model_validate(arguments)
        return await tool(ToolCall(call, spools), **dict(given)), False
    except ValidationError as problem:
        told = [f"{where(error['loc'])}: {error['msg']}." for error in problem.errors(include_url=False)[:5]]
        return failure_body(BadRequest(" ".join(told)).failure(), call.origin), True
    except Refusal as refused:
        return refused.body, True
    except TintypeError as problem:
        return failure_body(problem.failure(), call.origin), True


def _as_object(given: object) -> object:
    """Reads an object that an assistant wrote as text."""
    try:
        return json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return given


EndpointId = Annotated[str, Field(max_length=200, description="Id of the model, such as fal-ai/flux-lora.")]
Input = Annotated[
    dict[str, Any], BeforeValidator(_as_object), Field(description="The model's inputs, by get_model_schema.")
]
RequestId = Annotated[str, Field(max_length=200, description="Id that run_model or submit_job returned.")]
RequestUrl = Annotated[str, Field(max_length=2000, description="URL of the request, in place of its id.")]
Words = Annotated[str, Field(max_length=1000, description="What is looked for, in a few words.")]
Seconds = Annotated[int, Field(ge=1, description="How long the files of the result are kept; default: for good.")]
Stores = Annotated[bool, Field(description="Whether input and result are kept; if not, the result is for an hour.")]
Count = Annotated[int, Field(ge=1, le=100, description="How many at most.")]


@_tool
async def search_models(
    asked: ToolCall, query: Words = "", category: str | None = None, limit: Count = 20, cursor: str | None = None
) -> Json:
    """Finds the models of this server, by words and by category (training, text-to-image). Without words: all."""
    found = [one for one in _by_words(query) if category in (None, "", one.category)]
    begin = int(cursor) if cursor and re.fullmatch("[0-9]{1,6}", cursor) else 0
    shown, more = found[begin : begin + limit], len(found) > begin + limit
    return {
        "models": [_brief(one) for one in shown],
        "total_shown": len(shown),
        "has_more": more,
        "next_cursor": str(begin + limit) if more else None,
    }


@_tool
async def recommend_model(asked: ToolCall, task: Words) -> Json:
    """Names the models of this server that fit a task best, the best first."""
    return {"task": task, "models": [_brief(one) for one in (_by_words(task) or catalog.ENDPOINTS)[:3]]}


@_tool
async def get_model_schema(asked: ToolCall, endpoint_id: EndpointId) -> Json:
    """Tells what a model takes and returns, as JSON schemas, with an example of its input."""
    document = await asked.ask(openapi.endpoint_document, query={"endpoint_id": endpoint_id})
    endpoint, schemas = catalog.get(endpoint_id), document["components"]["schemas"]
    names = {part: openapi.name_of(endpoint, part) for part in ("Input", "Output")}
    return {
        **_brief(endpoint),
        "input_schema": schemas.pop(names["Input"]),
        "output_schema": schemas.pop(names["Output"]),
        "components": {"schemas": {name: one for name, one in schemas.items() if name not in openapi.SHARED}},
        "examples": list(endpoint.examples),
        "documentation_url": f"{asked.call.origin}/models/{endpoint.id}/llms.txt",
    }


@_tool
async def get_pricing(
    asked: ToolCall, endpoint_ids: Annotated[list[EndpointId], Field(min_length=1, max_length=50)]
) -> Json:
    """Tells what a unit of each model costs at fal; here nothing is charged, and the account stays at zero."""
    named = ",".join(catalog.get(name).id for name in endpoint_ids)
    return await asked.ask(platform.list_prices, query={"endpoint_id": named})


@_tool
async def search_docs(asked: ToolCall, query: Words) -> Json:
    """Finds the parts of this server's manual that speak of something: models, their inputs, programs, errors."""
    return {"results": manual.search(query, asked.call.origin)}


async def search_fal(asked: ToolCall, query: Words) -> Json:
    """Finds the parts of this server's manual that speak of something, by the name that fal's documentation has."""
    return await search_docs(asked, query)


READER_TOOLS: dict[str, Tool] = {search_fal.__name__: search_fal}


@_tool
async def run_model(
    asked: ToolCall, endpoint_id: EndpointId, input: Input, expiration_seconds: Seconds | None = None,
    store_payload: Stores = True,
) -> Json:  # fmt: skip
    """Runs a model and returns its result if that is there within 45 seconds. Else the status is processing: ask
    check_job. For trainings, submit_job is meant."""
    with asked.call.services.limits.open_stream(asked.call.owner):
        call, request, told = await _accepted(asked, endpoint_id, input, expiration_seconds, store_payload)
        request = await completed(call, request, within=WAIT_SECONDS)
    if request.status is not Status.COMPLETED:
        return {**told, "status": "processing"}
    result = read(await status.outcome(call, request))
    return {"status": "completed", "request_id": request.id, "result": result, "recipe": told["recipe"]}


@_tool
async def submit_job(
    asked: ToolCall, endpoint_id: EndpointId, input: Input, expiration_seconds: Seconds | None = None,
    store_payload: Stores = True,
) -> Json:  # fmt: skip
    """Queues a request and returns its id at once; check_job tells how far it is."""
    return (await _accepted(asked, endpoint_id, input, expiration_seconds, store_payload))[2]


@_tool
async def check_job(
    asked: ToolCall, endpoint_id: EndpointId = "", request_id: RequestId = "", status_url: RequestUrl = ""
) -> Json:
    """Tells how far a request is: its status, progress, seconds left, and the newest lines of its log."""
    told = await asked.ask(status.status, query={"logs": "1"}, id=_id(request_id, status_url))
    told["logs"] = told["logs"][-_MOST_LINES:]
    if told["status"] != Status.COMPLETED:
        told["poll_after_seconds"] = max(1, min(30, round(told["eta"] or 5)))
    return told


@_tool
async def get_job_result(
    asked: ToolCall, endpoint_id: EndpointId = "", request_id: RequestId = "", response_url: RequestUrl = ""
) -> Json:
    """Returns the result of a completed request, with the URLs of its files; or the error it failed with."""
    found = _id(request_id, response_url)
    return {"request_id": found, "result": await asked.ask(status.result, id=found)}


@_tool
async def cancel_job(
    asked: ToolCall, endpoint_id: EndpointId = "", request_id: RequestId = "", cancel_url: RequestUrl = ""
) -> Json:
    """Cancels a request, waiting or running."""
    return await asked.ask(status.cancel, id=_id(request_id, cancel_url))


@_tool
async def upload_file(
    asked: ToolCall,
    prepare_upload: Annotated[bool, Field(description="Return an upload_url to PUT the bytes to.")] = False,
    file_name: Annotated[str, Field(max_length=1000)] = "",
    file_size: Annotated[int | None, Field(ge=0, description="Bytes, with prepare_upload.")] = None,
    content_type: Annotated[str, Field(max_length=200)] = "",
    url: Annotated[str, Field(description="A URL that is fetched and kept here.")] = "",
    data: Annotated[str, Field(description="The bytes as base64, or as a data URI if they are more than a few.")] = "",
) -> Json:
    """Brings a file to this server, for models that take one. For a file of your own: prepare_upload, with file_name
    and file_size, and then PUT the bytes to upload_url; file_url is what models take. Or a url, or the data itself."""
    if url:
        return await mcp_files.keep_from_url(asked, url, file_name, content_type)
    if data:
        return await mcp_files.keep_data(asked, data, file_name, content_type)
    if prepare_upload or file_name:
        return await mcp_files.prepare(asked, file_name, file_size or 0, content_type)
    raise BadRequest("Nothing to upload is named.", remedy="Send prepare_upload with file_name, or url, or data.")


@_tool
async def inspect_dataset(
    asked: ToolCall,
    images_data_url: Annotated[str, Field(description="URL of the archive of photos.")],
    endpoint_id: EndpointId = catalog.ENDPOINTS[0].id,
    input: Annotated[Input, Field(description="Other inputs of the training, such as trigger_phrase.")] = {},  # noqa: B006
) -> Json:
    """Tells what a training would make of an archive of photos, before it is trained: what is kept, left out and
    repaired, captions, faces, and what a person should know. Costs seconds, not minutes."""
    given = catalog.get(endpoint_id).parse({**input, "images_data_url": images_data_url})
    return await mcp_files.inspect_archive(asked, given)


@_tool
async def explain_failure(asked: ToolCall, request_id: RequestId) -> Json:
    """Tells why a request failed or was cancelled: the error and its meaning, the attempts, and the end of its log."""
    told = await asked.ask(status.status, query={"logs": "1"}, id=_id(request_id, ""))
    if "error" not in told:
        raise BadRequest(f"Request {told['request_id']} has not failed: it is {told['status']}.")
    return {
        "request_id": told["request_id"],
        "error_type": told["error_type"],
        "error": told["error"],
        "meaning": dict(manual.error_types()).get(told["error_type"], ""),
        "documentation_url": f"{asked.call.origin}/docs/errors#{told['error_type']}",
        "step": told["step"],
        "total_steps": told["total_steps"],
        "attempts": told["attempts"],
        "logs": told["logs"][-_MOST_LINES:],
    }


@_tool
async def list_loras(asked: ToolCall, limit: Count = 50) -> Json:
    """Lists the LoRAs that were trained here, newest first, with the URL (or custom model's id) to generate with."""
    store, call = asked.call.store, asked.call
    done = await store.requests.list(kind="training", outcome=Outcome.OK, owner=call.owner, limit=limit)
    models = {one.request_id: one for one in await store.models.list(owner=call.owner, limit=1000)}
    loras = []
    for request in done:
        file = (request.output or {}).get("diffusers_lora_file")
        if file is None:
            continue  # its result is not kept any more
        model, endpoint = models.get(request.id), catalog.find(request.endpoint_id)
        loras.append(
            {
                "url": render(file, call.origin)["url"],
                "base": endpoint.base if endpoint else None,
                "endpoint_id": request.endpoint_id,
                "request_id": request.id,
                "trained_at": request.ended_at,
                "trigger_phrase": request.input.get("trigger_phrase"),
                "model_id": model.id if model else None,
                "model_name": model.name if model else None,
            }
        )
    return {"loras": loras}


for _one in DATASET_TOOLS:
    _tool(_one)


async def _accepted(
    asked: ToolCall, endpoint_id: str, input: Json, expiration_seconds: int | None, store_payload: bool
) -> tuple[Call, Request, Json]:
    """Keeps a request as `POST /queue/{endpoint id}` does. Returns the call that sent it, and what is told of it."""
    headers = {} if store_payload else {"x-fal-store-io": "0"}
    if expiration_seconds is not None:
        headers["x-fal-object-lifecycle"] = json.dumps({"expiration_duration_seconds": expiration_seconds})
    call = asked.request({"endpoint": endpoint_id.strip("/")}, sent={}, headers=headers)
    text = to_json(input)
    request, _ = await accept(call, sync=False, body=Body(input, hashlib.sha256(text).hexdigest(), asked.spools))
    recipe: Json = {"endpoint_id": endpoint_id, "input": input}
    if not store_payload or len(text) > _LONGEST_RECIPE or any(name in text.decode() for name in asked.spools):
        recipe = {"endpoint_id": endpoint_id, "input_omitted": True}
    told = await describe_accepted(call, request)
    return call, request, {**told, "poll_after_seconds": _POLL_SECONDS[request.kind], "recipe": recipe}


def _id(request_id: str, url: str) -> str:
    named = _ID_IN_URL.search(url)
    if not request_id and named is None:
        raise BadRequest("No request is named.", remedy="Send the request_id that submit_job returned.")
    return request_id or (named[1] if named else "")


def _brief(endpoint: Endpoint) -> Json:
    return {
        "endpoint_id": endpoint.id,
        "name": endpoint.title,
        "category": endpoint.category,
        "description": endpoint.description,
    }


def _by_words(query: str) -> Sequence[Endpoint]:
    """Lists the endpoints that have something of what is looked for, those that have most of it first."""
    words = manual.words(query)
    if not words:
        return catalog.ENDPOINTS
    scores = {
        one.id: len(
            words & manual.words(f"{one.id} {one.title} {one.category} {one.kind} {one.description} {one.tags}")
        )
        for one in catalog.ENDPOINTS
    }
    return sorted((one for one in catalog.ENDPOINTS if scores[one.id]), key=lambda one: -scores[one.id])
