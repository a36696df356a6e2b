"""What a request came to, and its cancellation."""

from __future__ import annotations

from starlette.responses import Response

from tintype.errors import NotFound, StillInProgress
from tintype.files import render
from tintype.store.records import Outcome, Request, Status
from tintype.web.answers import answer, failed
from tintype.web.services import Call
from tintype.web.status import attempts_of, failure_of, find, unknown_request


async def result(call: Call) -> Response:
    """`GET …/requests/{id}`: the bare output, or the error in the shape it has."""
    request = await find(call)
    if request.status is not Status.COMPLETED:
        raise StillInProgress("Request is still in progress.", remedy="Ask its status until it is COMPLETED.")
    return await outcome(call, request)


async def outcome(call: Call, request: Request) -> Response:
    """The answer to a completed request, with file URLs as the caller can reach them. Raises NotFound for one that has
    been forgotten."""
    if request.is_erased:
        raise NotFound(
            "The result of this request is not kept any more.",
            remedy="With X-Fal-Store-IO: 0 or sync_mode it is there for an hour, else until `tintype gc --older-than`.",
        )
    if request.outcome is Outcome.OK:
        response = answer(render(request.output, call.origin), headers={"X-Fal-Billable-Units": "0"})
    else:
        response = failed(failure_of(request), call.origin)
    attempts = await attempts_of(call, request)
    if attempts:
        response.headers["X-Fal-Served-From"] = attempts[-1].worker_id
    return response


async def cancel(call: Call) -> Response:
    """`PUT …/requests/{id}/cancel`."""
    before = await find(call)
    request = await call.queue.cancel(before.id)
    if request is None:
        raise unknown_request()
    if before.status is Status.COMPLETED:
        ended = "was cancelled already" if before.outcome is Outcome.CANCELLED else "has completed already"
        return answer({"status": "ALREADY_COMPLETED", "detail": f"Request {ended}.", "message": f"It {ended}."}, 400)
    return answer({"status": "CANCELLATION_REQUESTED", "detail": "The request will be cancelled."}, 202)
