"""Refuses realtime so that whoever tried is told why: no endpoint here speaks it.

A websocket that is refused at its handshake tells a browser nothing but that it failed. So it is accepted, told in the
words that fal's clients turn into an error, and closed.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tintype.errors import Forbidden, NotFound
from tintype.settings import Settings
from tintype.web.access import check_host
from tintype.web.answers import to_json
from tintype.web.services import Call

_REFUSED = 1008  # "policy violation", the close code for whatever has none of its own
REASON = "No endpoint of this server speaks realtime."
REMEDY = "Use subscribe, run or stream instead."


async def refuse_over_http(call: Call) -> Response:
    """`/run/{endpoint id}/realtime` without a websocket."""
    raise NotFound(REASON, remedy=REMEDY)


async def refuse_websocket(settings: Settings, scope: Scope, receive: Receive, send: Send) -> None:
    """Any websocket, whatever its path."""
    await receive()  # the handshake
    try:
        check_host(settings, Headers(scope=scope))
    except Forbidden:
        await send({"type": "websocket.close"})
        return
    told = {"type": "x-fal-error", "error": "NOT_FOUND", "reason": f"{REASON} {REMEDY}"}
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": to_json(told).decode()})
    await send({"type": "websocket.close", "code": _REFUSED, "reason": f"{REASON} {REMEDY}"})
