"""The MCP server: assistants call the same endpoints by JSON-RPC, with fal's own tools and the same keys.

Streamable HTTP, as far as a server without sessions needs it: one message is one POST, its answer plain JSON. Nothing
is sent without being asked for, so that there is no stream to open by GET. The official SDK would keep another 26 MB in
the web process for these few methods; the tests speak through its client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from tintype import __version__
from tintype.errors import InputError, Json
from tintype.files.spool import Spool
from tintype.web import manual
from tintype.web.body import json_body, json_value
from tintype.web.mcp_tools import READER_TOOLS, TOOLS, Tool, call_tool, describe
from tintype.web.operation import answers
from tintype.web.responses import json_response, to_json
from tintype.web.services import Call

#: Versions of the protocol that begin with a handshake, the newest first. A client of a newer one falls back to it.
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_PARSE_ERROR, _INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_ONE_MESSAGE = (
    'The body is one JSON-RPC 2.0 message, not a batch, such as {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}.'
)
_INSTRUCTIONS = (
    "This server trains LoRAs from photos and generates images with them, behind fal's API. Search or ask for a "
    "recommendation, read the model's schema, upload files with upload_file, then submit_job and check_job until it is "
    "COMPLETED, then get_job_result. A training takes minutes: inspect_dataset tells beforehand what it would make of "
    "the photos. If a request failed, explain_failure says why and what to do."
)


@answers(dict[str, Any], body=dict[str, Any], status=(200, 400), empty=(202,))
async def answer_message(call: Call) -> Response:
    """Answers `POST /mcp`: one JSON-RPC message of an assistant."""
    try:
        async with json_body(call) as body:
            return await _answer(call, body.value, body.spools, TOOLS)
    except InputError as problem:
        return _error(None, _PARSE_ERROR, problem.message)


@answers((dict[str, Any], "text/event-stream"), body=dict[str, Any], status=(200, 400), empty=(202,))
async def answer_reader(call: Call) -> Response:
    """Answers `POST /docs/mcp`, where anybody may search the manual; as an event, for so fal's answer is read."""
    try:
        answer = await _answer(call, await json_value(call), {}, READER_TOOLS)
    except InputError as problem:
        return _error(None, _PARSE_ERROR, problem.message)
    if answer.status_code != 200 or "text/event-stream" not in call.http.headers.get("accept", ""):
        return answer
    return Response(b"event: message\ndata: " + bytes(answer.body) + b"\n\n", media_type="text/event-stream")


async def _answer(call: Call, message: Any, spools: Mapping[str, Spool], tools: Mapping[str, Tool]) -> Response:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return _error(None, _INVALID_REQUEST, _ONE_MESSAGE)
    if "id" not in message or "method" not in message:
        return Response(status_code=202)  # a notification, or the answer to a question that nobody asked
    number, method, params = message["id"], message["method"], message.get("params") or {}
    if type(number) not in (str, int):
        return _error(None, _INVALID_REQUEST, "The id of a message is a text or a whole number.")
    if not isinstance(params, dict):
        return _error(number, _INVALID_PARAMS, "The params of a message are an object.")
    if method == "initialize":
        return _result(number, _introduction(params.get("protocolVersion")))
    if method == "ping":
        return _result(number, {})
    if method == "tools/list":
        return _result(number, {"tools": [describe(tool) for tool in tools.values()]})
    if method != "tools/call":
        return _error(number, _METHOD_NOT_FOUND, f"There is no method {str(method)[:100]!r}.")
    name, arguments = params.get("name"), params.get("arguments") or {}
    if not isinstance(name, str) or name not in tools:
        return _error(number, _INVALID_PARAMS, f"There is no tool {str(name)[:100]!r}; tools/list names them.")
    answer, failed = await call_tool(call, tools[name], arguments, spools)
    # What is in `content` is for clients that do not read the structured form.
    texts = [to_json(answer).decode()] if failed or tools is TOOLS else map(manual.as_text, answer["results"])
    content = [{"type": "text", "text": text} for text in texts]
    return _result(number, {"content": content, "structuredContent": answer, "isError": failed})


def _introduction(version: object) -> Json:
    return {
        "protocolVersion": version if version in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "tintype", "version": __version__},
        "instructions": _INSTRUCTIONS,
    }


def _result(number: str | int, result: Json) -> Response:
    return json_response({"jsonrpc": "2.0", "id": number, "result": result})


def _error(number: Any, code: int, message: str) -> Response:
    body = {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
    return json_response(body, 200 if number is not None else 400)
