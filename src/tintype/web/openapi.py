"""Describes the endpoints as OpenAPI, for the programs that read what a model takes before they call it.

Everything follows from the declarations in the catalogue and from the table of routes. A document of one endpoint has
fal's form (its paths, names and `x-fal-` fields, OpenAPI 3.0), with this server in the place of fal's.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema
from starlette.responses import Response
from starlette.routing import Route

from tintype import __version__, catalog
from tintype.catalog import Endpoint
from tintype.errors import BadRequest, Json
from tintype.web.operation import Declaration, answers
from tintype.web.options import OPTIONS
from tintype.web.platform_schema import PlatformError
from tintype.web.responses import is_platform, json_response
from tintype.web.services import Call

_REF = "#/components/schemas/{model}"
_VALUES = ("default", "enum", "const", "examples", "properties")  # what holds no schema itself
_Mode = Literal["validation", "serialization"]
_Model = tuple[type[BaseModel], _Mode]
_JSON, _EVENTS = "application/json", "text/event-stream"

_TEXT, _NUMBER, _URL = {"type": "string"}, {"type": "number", "nullable": True}, {"type": "string", "format": "uri"}
_EVENT: Json = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {**_TEXT, "description": "JSON: a status; after the last one of a run, its output."}},
}
_ERROR: Json = {"$ref": _REF.format(model="Error")}
_ABOUT: Json = {"name": "request_id", "in": "path", "required": True, "schema": _TEXT}
_LOGS: Json = {"name": "logs", "in": "query", "schema": {"type": "integer", "enum": [0, 1]}}
SHARED: Json = {
    "QueueStatus": {
        "type": "object",
        "required": ["status", "request_id", "response_url", "status_url", "cancel_url", "logs", "metrics"],
        "properties": {
            "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
            "request_id": {**_TEXT, "description": "The request id."},
            "queue_position": {"type": "integer", "description": "How many requests are before it."},
            "response_url": _URL,
            "status_url": _URL,
            "cancel_url": _URL,
            "logs": {
                "type": "array",
                "nullable": True,
                "items": {
                    "type": "object",
                    "properties": {"timestamp": _TEXT, "level": _TEXT, "source": _TEXT, "message": _TEXT},
                },
            },
            "metrics": {"type": "object", "additionalProperties": True},
            "progress": {**_NUMBER, "description": "From 0 to 1."},
            "eta": {**_NUMBER, "description": "Seconds."},
            "waiting": {
                "type": "object",
                "description": "In the queue once memory was lacking: why it waits, and for how many seconds the steps "
                "of what has the memory will still go on, where that is known.",
                "properties": {"reason": _TEXT, "eta": _NUMBER},
            },
            # Scripts look for the word in quotes to tell a failure from a document, and fal's has no such property.
            "error_type": {**_TEXT, "description": "How a completed request failed; `error` says it in a sentence."},
        },
    },
    "Cancellation": {
        "type": "object",
        "required": ["status", "detail"],
        "properties": {
            "status": {
                "type": "string",
                "enum": ["CANCELLATION_REQUESTED", "STOP_REQUESTED", "ALREADY_COMPLETED", "NOT_FOUND"],
            },
            "detail": _TEXT,
        },
    },
    "Error": {
        "type": "object",
        "required": ["detail", "message"],
        "properties": {
            "detail": {"anyOf": [_TEXT, {"type": "array", "items": {"$ref": "#/components/schemas/InputError"}}]},
            "message": {**_TEXT, "description": "All of it, and what to do next."},
            "error_type": _TEXT,
        },
    },
    "InputError": {
        "type": "object",
        "required": ["loc", "msg", "type", "url"],
        "properties": {
            "loc": {"type": "array", "items": {"anyOf": [_TEXT, {"type": "integer"}]}},
            "msg": _TEXT,
            "type": _TEXT,
            "url": _URL,
            "ctx": {"type": "object", "additionalProperties": True},
            "input": {"description": "What was sent."},
        },
    },
}


@answers(dict[str, Any], query={"endpoint_id": str})
async def endpoint_document(call: Call) -> Response:
    """Answers `GET /api/openapi/queue/openapi.json?endpoint_id=…`: one endpoint on the queue, as fal describes it."""
    name = call.http.query_params.get("endpoint_id", "").strip().strip("/")
    if not name:
        raise BadRequest("No endpoint is named.", remedy=f"Send ?endpoint_id={catalog.ENDPOINTS[0].id}.")
    return json_response(queue_document(call, catalog.get(name), name))


def queue_document(call: Call, endpoint: Endpoint, name: str) -> Json:
    """Describes one endpoint on the queue, under one of its names."""
    info = {
        "title": f"Queue OpenAPI for {name}",
        "version": __version__,
        "description": endpoint.description,
        "x-fal-metadata": {
            "endpointId": name,
            "category": endpoint.category,
            "playgroundUrl": f"{call.origin}/",
            "documentationUrl": f"{call.origin}/models/{name}/llms.txt",
        },
    }
    return _document(info, call.queue_url, [endpoint], _queue_paths("", name, endpoint))


def server_document(call: Call, described: Mapping[str, Sequence[Route]]) -> Response:
    """Describes the whole server: each endpoint on the queue and as a run, and other routes by their prefix."""
    paths, parts = Json(), Json()
    for prefix, routes in described.items():
        for route in routes:
            path = prefix + route.path_format
            paths[path] = {
                method.lower(): _operation(path, route, handler, parts)
                for method, handler in getattr(route, "handlers", {}).items()
            }
    for endpoint in catalog.ENDPOINTS:
        for name in (endpoint.id, *endpoint.aliases):
            paths |= _queue_paths("/queue", name, endpoint) | _more_paths(name, endpoint)
    info = {"title": "tintype", "version": __version__, "description": "A self-hosted fal for personalization."}
    document = _document(info, call.origin, catalog.ENDPOINTS, paths)
    document["components"]["schemas"] |= parts
    return json_response(document)


def _document(info: Json, server: str, endpoints: Sequence[Endpoint], paths: Json) -> Json:
    return {
        "openapi": "3.0.4",
        "info": info,
        "components": {
            "securitySchemes": {
                "apiKeyAuth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "Key <id>:<secret>",
                }
            },
            "schemas": {**SHARED, **_schemas(endpoints)},
        },
        "paths": paths,
        "servers": [{"url": server}],
        "security": [{"apiKeyAuth": []}],
    }


def _queue_paths(prefix: str, name: str, endpoint: Endpoint) -> Json:
    base, status = f"{prefix}/{name}", "QueueStatus"
    one = f"{base}/requests/{{request_id}}"
    return {
        base: {"post": {**_input(endpoint, name), **_answers({"200": status})}},
        one: {"get": {"parameters": [_ABOUT], **_answers({"200": name_of(endpoint, "Output")})}},
        f"{one}/status": {"get": {"parameters": [_ABOUT, _LOGS], **_answers({"200": status, "202": status})}},
        f"{one}/cancel": {"put": {"parameters": [_ABOUT], **_answers({"202": "Cancellation", "400": "Cancellation"})}},
    }


def _more_paths(name: str, endpoint: Endpoint) -> Json:
    """Describes what fal's document of an endpoint does not have: runs, and streams."""
    one, run = f"/queue/{name}/requests/{{request_id}}", f"/run/{name}"
    output = _answers({"200": name_of(endpoint, "Output")})
    stop = {"parameters": [_ABOUT], **_answers({"202": "Cancellation", "400": "Cancellation"})}
    return {
        **({f"{one}/stop": {"put": stop}} if endpoint.kind == "training" else {}),
        run: {"post": {**_input(endpoint, name), **output}},
        f"{run}/stream": {"post": {**_input(endpoint, name), **_answers({"200": _EVENTS})}},
        f"{one}/response": {"get": {"parameters": [_ABOUT], **output}},
        f"{one}/status/stream": {"get": {"parameters": [_ABOUT, _LOGS], **_answers({"200": _EVENTS})}},
    }


def _input(endpoint: Endpoint, name: str) -> Json:
    content: Json = {"schema": {"$ref": _REF.format(model=name_of(endpoint, "Input"))}}
    if endpoint.examples:
        content["example"] = endpoint.examples[0]
    body = {"required": True, "content": {"application/json": content}}
    said = [{"in": place, "name": option, "schema": schema} for place, option, schema in OPTIONS]
    return {"summary": endpoint.title, "tags": [name], "requestBody": body, "parameters": said}


def _answers(named: Mapping[str, str]) -> Json:
    """Describes answers by status: each is named by its schema, or is a stream of events."""
    schemas = {status: {"$ref": _REF.format(model=name)} for status, name in named.items() if name != _EVENTS}
    described = {status: _content(_JSON, schema) for status, schema in schemas.items()}
    streams = {status: _content(_EVENTS, _EVENT) for status, name in named.items() if name == _EVENTS}
    return {"responses": {**described, **streams, **_errors(_ERROR)}}


def _errors(schema: Json) -> Json:
    return dict.fromkeys(("4XX", "5XX"), _content(_JSON, schema, "Why not, and what to do."))


def _operation(path: str, route: Route, handler: Any, parts: Json) -> Json:
    """Describes a handler by what it says of itself; schemas that it names are added to `parts`."""
    told: Declaration = handler.declaration
    summary = (inspect.getdoc(getattr(handler, "handler", handler)) or "").partition("\n\n")[0]
    error = _schema(PlatformError, "serialization", parts) if is_platform(path) else _ERROR
    place = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in route.param_convertors]
    headers = [{"name": name, "in": "header", "schema": {**_TEXT, "maxLength": 255}} for name in told.headers]
    described: Json = {
        "summary": " ".join(summary.split()),
        "parameters": [*place, *_query(told.query, parts), *headers],
        "responses": {
            **{str(status): _contents(told.answer, "serialization", parts) for status in told.status},
            **{str(status): {"description": "Done."} for status in told.empty},
            **_errors(error),
        },
    }
    if told.body is not None:
        body = _contents(told.body, "validation", parts)
        described["requestBody"] = {"required": True, "content": body["content"]}
    return described | ({"security": []} if getattr(route, "is_open", False) else {})


def _query(model: Any, parts: Json) -> list[Json]:
    schema = {} if model is None else _schema(model, "validation", parts)
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": part}
        for name, part in schema.get("properties", {}).items()
    ]


def _contents(declared: Any, mode: _Mode, parts: Json) -> Json:
    """Describes what may be sent or answered: JSON of a schema, and other media types by their names."""
    described: Json = {"description": "What was asked for.", "content": {}}
    for one in declared if isinstance(declared, tuple) else (declared,):
        media = one if isinstance(one, str) else _JSON
        plain = {_JSON: one, _EVENTS: _EVENT}.get(media, {**_TEXT, "format": "binary"})
        described["content"][media] = {"schema": _schema(one, mode, parts) if media == _JSON else plain}
    return described


def _content(media: str, schema: Json, description: str = "What was asked for.") -> Json:
    return {"description": description, "content": {media: {"schema": schema}}}


def _schema(declared: Any, mode: _Mode, parts: Json) -> Json:
    """Makes the schema of a type, of several that may stand for each other, or of a shape; what it names is added to
    `parts`."""
    if isinstance(declared, Mapping):
        made: Json = {"type": "object", "properties": {n: _schema(part, mode, parts) for n, part in declared.items()}}
        return made | ({"required": [*declared], "additionalProperties": False} if mode == "serialization" else {})
    if isinstance(declared, list):
        return {"type": "array", "items": _schema(declared[0], mode, parts)}
    made = TypeAdapter(declared).json_schema(ref_template=_REF, mode=mode)
    parts |= {name: as_openapi(schema) for name, schema in made.pop("$defs", {}).items()}
    schema: Json = as_openapi(made)
    return schema


def name_of(endpoint: Endpoint, part: str) -> str:
    """Names a schema as fal does: the endpoint's id in camel case, without fal's own owner."""
    words = re.split(r"[^A-Za-z0-9]+", endpoint.id.removeprefix("fal-ai/"))
    return "".join(word[:1].upper() + word[1:] for word in words) + part


def schema_of(model: type[BaseModel], mode: _Mode) -> Json:
    """Makes the schema of an input or an output, with references to what it holds."""
    return _definitions(((model, mode),))[0][model, mode]


def _schemas(endpoints: Sequence[Endpoint]) -> Json:
    """Makes the schemas of all inputs and outputs, and of what they hold."""
    roots: dict[str, _Model] = {}
    for endpoint in endpoints:
        roots[name_of(endpoint, "Input")] = endpoint.input, "validation"
        roots[name_of(endpoint, "Output")] = endpoint.output, "serialization"
    own, parts = _definitions(tuple(dict.fromkeys(roots.values())))
    return {**parts, **{name: {**own[model], "title": name} for name, model in roots.items()}}


@functools.lru_cache(maxsize=64)
def _definitions(models: tuple[_Model, ...]) -> tuple[dict[_Model, Json], Json]:
    """Makes the schemas of models, and by name those of what they hold."""
    references, made = models_json_schema(models, ref_template=_REF)
    definitions = {name: as_openapi(schema) for name, schema in made["$defs"].items()}
    names = {model: reference["$ref"].rpartition("/")[2] for model, reference in references.items()}
    own = {model: definitions[name] for model, name in names.items()}
    return own, {name: schema for name, schema in definitions.items() if name not in names.values()}  # type: ignore[return-value]


def as_openapi(schema: Any) -> Any:
    """Brings a JSON schema into OpenAPI 3.0's older dialect, with fal's word for the order of properties."""
    if isinstance(schema, list):
        return [as_openapi(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    told = {name: part for name, part in schema.items() if name != "ui"}  # how a form shows it
    made = {name: part if name in _VALUES else as_openapi(part) for name, part in told.items()}
    if "properties" in schema:
        made["properties"] = {name: as_openapi(part) for name, part in schema["properties"].items()}
        made["x-fal-order-properties"] = list(made["properties"])
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in schema:
            made |= {bound.lower(): schema[f"exclusive{bound}"], f"exclusive{bound}": True}
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "examples" in made:
        made["example"] = made.pop("examples")[0]
    choices = [part for part in made.pop("anyOf", []) if part != {"type": "null"}]
    if len(choices) < len(schema.get("anyOf", [])):
        made["nullable"] = True
        if made.get("default", ...) is None:
            del made["default"]
        if any("$ref" in part for part in choices):  # what is named does not allow it by itself
            choices.append({"enum": [None]})
    if len(choices) == 1:
        made = {**({"allOf": choices} if "$ref" in choices[0] else choices[0]), **made}
    elif choices:
        made["anyOf"] = choices
    return made
