"""Runs a request while the caller holds the line: the same work and the same answer as the queue, on one connection.

What becomes of a request whose caller hangs up is told in sync_runs.py. Realtime is refused so that whoever tried is
told why. A websocket that is refused at its handshake tells a browser nothing but that it failed: so it is accepted,
told in the words that fal's clients turn into an error, and closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.websockets import WebSocket

from tintype.errors import NotFound
from tintype.files import render
from tintype.store.records import Outcome, Request, Status
from tintype.web.responses import failure_body, to_json
from tintype.web.services import Call
from tintype.web.status import EventStream, event, failure_of, latest, outcome, status_events, unknown_request
from tintype.web.submit import accept

_REFUSED = 1008  # "policy violation", the close code for whatever has none of its own
_NO_REALTIME = "No endpoint of this server speaks realtime."
_INSTEAD = "Use subscribe, run or stream instead."
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.25  # seconds between two looks


async def run(call: Call) -> Response:
    """Answers `POST /run/{endpoint id}` (or GET with the input in the query)."""
    with call.services.limits.open_stream(call.owner):
        request, digest = await accept(call, sync=True)
        with call.services.sync_runs.waiting(request.id, digest):
            done = await completed(call, request)
        return await outcome(call, done)


async def run_stream(call: Call) -> Response:
    """Answers `POST /run/{endpoint id}/stream`: progress as server-sent events, the last of which is the output."""
    with call.services.limits.open_stream(call.owner) as held:
        request, digest = await accept(call, sync=True)
        return EventStream(_events(call, request, digest), held.pop_all())


async def refuse_over_http(call: Call) -> Response:
    """Refuses `/run/{endpoint id}/realtime` without a websocket."""
    raise NotFound(_NO_REALTIME, remedy=_INSTEAD)


async def refuse_websocket(websocket: WebSocket) -> None:
    """Refuses any websocket, whatever its path."""
    reason = f"{_NO_REALTIME} {_INSTEAD}"
    await websocket.accept()
    await websocket.send_text(to_json({"type": "x-fal-error", "error": "NOT_FOUND", "reason": reason}).decode())
    await websocket.close(_REFUSED, reason)


async def _events(call: Call, request: Request, digest: str) -> AsyncIterator[bytes]:
    with call.services.sync_runs.waiting(request.id, digest):
        async for news in status_events(call, request, with_logs=True):
            yield news
        done = await call.store.requests.get(request.id)
        if done is not None and done.outcome is Outcome.OK:
            yield event(render(done.output, call.origin))
        elif done is not None:
            failure = failure_of(done)
            yield event({"error": failure.body.get("message"), **failure_body(failure, call.origin)})


async def completed(call: Call, request: Request, *, within: float = float("inf")) -> Request:
    """Waits for the request to complete, `within` so many seconds. Raises ClientDisconnect when the caller has gone."""
    wait, ends = _FIRST_WAIT, anyio.current_time() + within
    while request.status is not Status.COMPLETED and anyio.current_time() < ends:
        with anyio.move_on_after(wait):
            while (await call.http.receive())["type"] != "http.disconnect":
                pass  # what was left of the body
            raise ClientDisconnect
        wait = min(wait * 1.3, _LONGEST_WAIT)
        found = await latest(call, request)
        if found is None:
            raise unknown_request()
        request = found
    return request
