"""One call of an MCP tool: what it was given, and its way to the handlers that answer the same over HTTP.

A tool asks a handler by a request of its own, made of the assistant's: same caller, same headers, another path and
body. So a key, a limit, a check and an error mean the same whichever way somebody comes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Message

from tintype.errors import Json
from tintype.files.spool import Spool
from tintype.web.responses import to_json
from tintype.web.services import Call

Handler = Callable[[Call], Awaitable[Response]]

_OF_BODY = (b"content-length", b"content-type", b"transfer-encoding")  # headers of the assistant's own body


class Refusal(Exception):
    """Carries the body with which a handler refused; it ends with the call of the tool."""

    def __init__(self, body: Json) -> None:
        super().__init__(body)
        self.body = body


@dataclass(frozen=True)
class Sent:
    """Holds what a request is made with: its body as it comes, how long that is, and headers."""

    body: AsyncIterator[bytes]
    size: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolCall:
    """Holds the call of a tool; `spools` are long data URIs among its arguments, by their placeholders."""

    call: Call
    spools: Mapping[str, Spool]

    async def ask(
        self,
        handler: Handler,
        *,
        query: Mapping[str, Any] | None = None,
        sent: Sent | Json | None = None,
        **params: str,
    ) -> Json:
        """Returns what a handler answers. Raises Refusal, and what the handler raises."""
        return read(await handler(self.request(params, query=query, sent=sent)))

    def request(
        self,
        params: Mapping[str, Any],
        *,
        query: Mapping[str, Any] | None = None,
        sent: Sent | Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Call:
        """Makes the request of a handler: a POST if something is `sent`, else a GET."""
        if sent is not None and not isinstance(sent, Sent):
            text = to_json(sent)
            sent = Sent(chunks_of(text), len(text), {"content-type": "application/json"})
        http = self.call.http
        said = {**(headers or {}), **(sent.headers if sent else {}), "content-length": str(sent.size if sent else 0)}
        kept = [(name, value) for name, value in http.scope["headers"] if name not in _OF_BODY]
        kept += [(name.encode(), value.encode("utf-8", "replace")) for name, value in said.items()]
        scope = {
            **http.scope,
            "method": "GET" if sent is None else "POST",
            "path": "/" + "/".join(str(part) for part in params.values()),
            "path_params": dict(params),
            "query_string": urlencode(query or {}, doseq=True).encode(),
            "headers": kept,
            "state": dict(http.scope["state"]),
        }
        return replace(self.call, http=HttpRequest(scope, self._receiver(sent)))

    def _receiver(self, sent: Sent | None) -> Callable[[], Awaitable[Message]]:
        """Makes what brings the body and then whatever else is heard of the assistant."""
        is_whole = False

        async def receive() -> Message:
            nonlocal is_whole
            if is_whole:
                return await self.call.http.receive()
            chunk = await anext(sent.body, None) if sent else None
            is_whole = chunk is None
            return {"type": "http.request", "body": chunk or b"", "more_body": not is_whole}

        return receive


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """Yields data that is there already."""
    yield data


def read(response: Response) -> Json:
    """Reads the JSON object of a response. Raises Refusal for one that tells of a failure."""
    body: Json = json.loads(bytes(response.body))
    if response.status_code >= 400:
        raise Refusal(body)
    return body
