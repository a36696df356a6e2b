"""Where a request stands, for polls (cached by version) and as a stream of events; what it came to; its cancellation.

The keys `logs` and, in the queue, `queue_position` are always there: the Python client indexes them. Only the three
words it knows are ever said; how a request failed is told beside `COMPLETED`.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import anyio
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tintype.catalog.price import CURRENCY
from tintype.errors import BadRequest, Cancelled, Failure, InternalError, Json, NotFound, StillInProgress
from tintype.fal import REHEARSAL_HEADER
from tintype.files import render
from tintype.store.leases import WAITS_FOR
from tintype.store.records import Attempt, Ending, LogLine, Outcome, Request, Status
from tintype.web.directions import request_urls
from tintype.web.operation import answers
from tintype.web.poll_cache import CachedStatus
from tintype.web.responses import failure_response, json_response, to_json
from tintype.web.services import Call

_WAITING_SECONDS = 1.0  # a place in the queue changes without the request's own version
_FOR_EVER = float("inf")
_POLL_SECONDS = 0.25  # how often a stream looks for news
_PING_SECONDS = 10.0
_SHAPE = re.compile(r"[A-Za-z0-9-]{1,64}")


async def status(call: Call) -> Response:
    """Answers `GET …/requests/{id}/status`."""
    request_id, with_logs = id_of(call), wants_logs(call)
    version = await call.store.requests.version(request_id)
    if version is None:
        raise unknown_request()
    key = (request_id, "logs" if with_logs else "", call.queue_url, call.key_id)  # what is held was seen by this key
    held = call.services.statuses.get(key, version, time.monotonic())
    if held is None:
        request = await find(call)
        lines = await call.store.requests.logs(request_id) if with_logs else []
        body = to_json(await describe(call, request, lines))
        held = CachedStatus(request.version, _good_until(request), code_of(request), body)
        call.services.statuses.put(key, held)
    call.answer_as(request_id)
    call.http.state.repeatable = held
    return Response(held.body, held.code, {"Cache-Control": "no-store"}, media_type="application/json")


def _good_until(request: Request) -> float:
    """Tells until when (monotonic) a response holds though the request does not change."""
    if request.status is not Status.IN_QUEUE:
        return _FOR_EVER
    deadline = _FOR_EVER if request.start_deadline is None else request.start_deadline - time.time()
    return time.monotonic() + min(_WAITING_SECONDS, max(deadline, 0.0))


async def status_stream(call: Call) -> Response:
    """Answers `GET …/requests/{id}/status/stream`: one event for every change, each with the new log lines only."""
    request = await find(call)
    held = call.services.limits.open_stream(call.owner)
    return EventStream(status_events(call, request, with_logs=wants_logs(call)), held)


class EventStream(StreamingResponse):
    """Sends server-sent events; what is `held` open for them is closed at the end."""

    def __init__(self, events: AsyncIterator[bytes], held: ExitStack) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


async def status_events(call: Call, request: Request, *, with_logs: bool) -> AsyncIterator[bytes]:
    """Yields server-sent events until COMPLETED has been sent."""
    seen = -1
    said: Json | None = None
    version, spoken, looked = -1, time.monotonic(), 0.0
    while True:
        waited = request.status is Status.IN_QUEUE and time.monotonic() - looked > _WAITING_SECONDS
        if request.version != version or waited:
            version, looked = request.version, time.monotonic()
            lines = await call.store.requests.logs(request.id, after=seen) if with_logs else []
            seen = lines[-1].number if lines else seen
            news = await describe(call, request, lines)
            if news != said:
                said, spoken = {**news, "logs": []}, time.monotonic()
                yield event(news)
        if request.status is Status.COMPLETED:
            return
        if time.monotonic() - spoken > _PING_SECONDS:
            spoken = time.monotonic()
            yield b": ping\n\n"
        await anyio.sleep(_POLL_SECONDS)
        found = await latest(call, request)
        if found is None:
            return
        request = found


def event(value: Any) -> bytes:
    """Writes one server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


async def result(call: Call) -> Response:
    """Answers `GET …/requests/{id}`: the bare output, or the error in the shape it has."""
    request = await find(call)
    if request.status is not Status.COMPLETED:
        raise StillInProgress("Request is still in progress.", remedy="Ask its status until it is COMPLETED.")
    return await outcome(call, request)


async def outcome(call: Call, request: Request) -> Response:
    """Answers for a completed request, with file URLs as the caller can reach them. Raises NotFound for a forgotten
    one."""
    if request.receipt is not None:
        raise NotFound(
            "This request was forgotten: what it was given and what it made is deleted.",
            remedy=f"DELETE /v1/models/requests/{request.id}/payloads answers with the receipt.",
        )
    if request.is_erased:
        raise NotFound(
            "The result of this request is not kept any more.",
            remedy="With X-Fal-Store-IO: 0 or sync_mode it is there for an hour, else until `tintype gc --older-than`.",
        )
    if request.outcome is Outcome.OK:
        response = json_response(
            render(request.output, call.origin), headers={"X-Fal-Billable-Units": f"{request.units:.10g}"}
        )
    else:
        response = failure_response(failure_of(request), call.origin)
    if request.is_rehearsal:
        response.headers[REHEARSAL_HEADER] = "1"
    attempts = await attempts_of(call, request)
    if attempts:
        response.headers["X-Fal-Served-From"] = attempts[-1].worker_id
    return response


async def cancel(call: Call) -> Response:
    """Answers `PUT …/requests/{id}/cancel`."""
    before = await find(call)
    request = await call.store.requests.cancel(before.id)
    if request is None:
        raise unknown_request()
    if before.status is Status.COMPLETED:
        ended = "was cancelled already" if before.outcome is Outcome.CANCELLED else "has completed already"
        return json_response(
            {"status": "ALREADY_COMPLETED", "detail": f"Request {ended}.", "message": f"It {ended}."}, 400
        )
    return json_response({"status": "CANCELLATION_REQUESTED", "detail": "The request will be cancelled."}, 202)


async def stop(call: Call) -> Response:
    """Answers `PUT …/requests/{id}/stop`: a training ends at its next step, and its LoRA so far is its result."""
    before = await find(call)
    request = await call.store.requests.stop(before.id)
    if request is None:
        raise unknown_request()
    if before.status is Status.COMPLETED:
        return json_response({"status": "ALREADY_COMPLETED", "detail": "Request has completed already."}, 400)
    return json_response({"status": "STOP_REQUESTED", "detail": "It ends at its next step; what it has is kept."}, 202)


@answers({"status": str, "request_id": str})
async def retry(call: Call) -> Response:
    """Answers `POST /v1/requests/{id}/retry`: what failed or was cancelled goes on, under its id, from its last
    checkpoint."""
    before = await find(call)
    if before.outcome not in (Outcome.FAILED, Outcome.CANCELLED):
        raise BadRequest("Only a request that failed or was cancelled can go on.", remedy="Send a new one.")
    call.services.limits.count_submit(call.owner)
    request = await call.store.requests.retry(before.id)
    if request is None:
        raise unknown_request()
    return json_response({"status": request.status, "request_id": request.id})


async def describe(call: Call, request: Request, lines: Sequence[LogLine]) -> Json:
    """Makes fal's status object, and what we add to it: progress, step, eta, attempts, times."""
    metrics = dict(request.progress)
    waits_for = metrics.pop(WAITS_FOR, None)
    if request.cancel_requested or request.status is Status.COMPLETED:
        metrics.pop("eta", None)  # nothing more is to come
    attempts = await attempts_of(call, request)
    body: Json = {
        "status": request.status,
        "request_id": request.id,
        **request_urls(call.queue_url, request),
        "logs": [log_entry(line) for line in lines],
        "metrics": metrics,
        "created_at": request.created_at,
        "started_at": request.started_at,
        "attempts": [attempt_entry(attempt) for attempt in attempts],
        "step": request.step,
        "total_steps": request.total_steps,
        "progress": round(request.step / request.total_steps, 4) if request.total_steps else None,
        "eta": metrics.get("eta"),
    }
    if request.tags:
        body["tags"] = request.tags
    if request.is_rehearsal:
        body["rehearsal"] = True
    if request.status is Status.IN_QUEUE:
        body["queue_position"] = await call.store.requests.position(request)
        if attempts and attempts[-1].ending is Ending.WAITED:
            body["waiting"] = {"reason": attempts[-1].cause, "eta": await _eta_of(call, waits_for)}
    if request.status is Status.IN_PROGRESS and request.cancel_requested:
        body["cancel_requested"] = True
    if request.status is Status.IN_PROGRESS and request.stop_requested:
        body["stop_requested"] = True
    if request.status is Status.COMPLETED:
        began = request.started_at if request.started_at is not None else request.ended_at
        body["metrics"] = {**metrics, "inference_time": round((request.ended_at or 0.0) - (began or 0.0), 3)}
        body["ended_at"] = request.ended_at
        body["usage"] = usage_of(call, request)
        if request.outcome is not Outcome.OK:
            failure = failure_of(request)
            body["error"] = str(failure.body.get("message") or failure.body.get("detail"))
            body["error_type"] = failure.error_type
    return body


async def _eta_of(call: Call, request_id: str | None) -> float | None:
    """Tells how many seconds the steps of a request will still take, if it runs and has taken some."""
    request = None if request_id is None else await call.store.requests.get(request_id)
    if request is None or request.status is not Status.IN_PROGRESS:
        return None
    eta: float | None = request.progress.get("eta")
    return eta


def usage_of(call: Call, request: Request) -> Json:
    """Tells what a request took, and what fal would have charged for it."""
    price = call.services.price_of(request.endpoint_id)
    units = request.units if request.outcome is Outcome.OK else 0.0
    return {
        "billable_units": units,
        "unit": price.unit,
        "unit_price": price.price,
        "cost_at_fal": round(units * price.price, 6),
        "currency": CURRENCY,
        "device_seconds": round(request.device_seconds, 3),
        "kwh": None if request.watt_hours is None else round(request.watt_hours / 1000, 6),
    }


def code_of(request: Request) -> int:
    """Returns 200 only when completed: an older client takes any 200 for the end."""
    return 200 if request.status is Status.COMPLETED else 202


def log_entry(line: LogLine) -> Json:
    """Describes a log line as fal's clients know it."""
    return {
        "timestamp": datetime.fromtimestamp(line.at, UTC).isoformat(timespec="microseconds"),
        "level": line.level,
        "source": line.source,
        "message": line.message,
    }


async def attempts_of(call: Call, request: Request) -> Sequence[Attempt]:
    """Returns every attempt there has been; the id of the request is the same for all of them."""
    return await call.store.requests.attempts(request.id) if request.attempts else ()


def attempt_entry(attempt: Attempt) -> Json:
    """Describes an attempt: when it was, how it ended and why, and how far it came."""
    return {
        "number": attempt.number,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "ending": attempt.ending,
        "cause": attempt.cause or None,
        "step": attempt.last_step,
        "checkpoint_step": attempt.checkpoint_step,
    }


def failure_of(request: Request) -> Failure:
    """Tells why a request did not end well."""
    if request.failure is not None:
        return request.failure
    if request.outcome is Outcome.CANCELLED:
        return Cancelled().failure()
    return InternalError("This request ended without a result.", remedy="Send it again.").failure()


def id_of(call: Call) -> str:
    """Returns the request id of a URL. Raises NotFound for what cannot be one."""
    request_id: str = call.params["id"]
    if _SHAPE.fullmatch(request_id) is None:
        raise unknown_request()
    return request_id


async def find(call: Call) -> Request:
    """Finds the request that a URL names, and names it in the response. Raises NotFound."""
    request = await call.store.requests.get(id_of(call))
    if request is None or not await call.store.keys.owns(call.owner, request.key_id):
        raise unknown_request()
    call.answer_as(request.id)
    return await latest(call, request) or request


async def latest(call: Call, request: Request) -> Request | None:
    """Reads a request again if it has changed, as by a deadline that has passed; None for one that is gone, or once the
    caller's key was revoked."""
    if not await call.store.keys.is_in_use(call.key_id):
        return None
    late = request.start_deadline is not None and time.time() > request.start_deadline
    if late and request.status is Status.IN_QUEUE:
        await call.store.leases.reap()
    if await call.store.requests.version(request.id) == request.version:
        return request
    return await call.store.requests.get(request.id)


def unknown_request() -> NotFound:
    """Makes the error for an id that is not known here."""
    return NotFound(
        "Request not found.", remedy="Check the id; it may be of another server or another key, or have been deleted."
    )


def wants_logs(call: Call) -> bool:
    """Tells whether logs are asked for, in either client's way: `logs=true` and `logs=1`."""
    return call.http.query_params.get("logs", "").lower() in ("1", "true", "yes", "on")
