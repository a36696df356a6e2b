"""The history of requests, and one request's own page: as it goes on, as it was sent, how each attempt ended."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from starlette.responses import Response

from tintype import catalog
from tintype.errors import Json
from tintype.files import render
from tintype.store.records import Outcome, Request, Status
from tintype.web.services import Call
from tintype.web.status import attempts_of, find
from tintype.web.studio.models import uses_of
from tintype.web.studio.page import page, show, time_in

_PAGE = 50  # requests
#: What may be looked for, in words of the pages.
_STATES: dict[str, tuple[Status | None, Outcome | None]] = {
    "waits": (Status.IN_QUEUE, None),
    "runs": (Status.IN_PROGRESS, None),
    "done": (None, Outcome.OK),
    "failed": (None, Outcome.FAILED),
    "cancelled": (None, Outcome.CANCELLED),
}


@page
async def list_requests(call: Call) -> Response:
    """Answers `GET /requests?state=&endpoint_id=&before=`: newest first."""
    query = call.http.query_params
    state, endpoint_id = query.get("state", ""), query.get("endpoint_id", "")
    status, outcome = _STATES.get(state, (None, None))
    before = time_in(call, "before")
    if status is None:
        found = await call.store.requests.list(
            outcome=outcome, endpoint_id=endpoint_id or None, owner=call.owner, limit=_PAGE + 1, before=before
        )
    else:
        found = [
            one
            for one in await call.store.requests.unfinished(owner=call.owner)
            if one.status is status
            and endpoint_id in ("", one.endpoint_id)
            and (before is None or one.created_at < before)
        ]
    return await show(
        call,
        "requests.html",
        requests=found[:_PAGE],
        older=found[_PAGE - 1].created_at if len(found) > _PAGE else None,
        states=list(_STATES),
        state=state,
        endpoints=[endpoint.id for endpoint in catalog.ENDPOINTS],
        endpoint_id=endpoint_id,
    )


@page
async def show_request(call: Call) -> Response:
    """Answers `GET /requests/{id}`."""
    request = await find(call)
    endpoint = catalog.find(request.endpoint_id)
    return await show(
        call,
        "request.html",
        request=request,
        endpoint=endpoint,
        input=_as_sent(call, request),
        attempts=await attempts_of(call, request),
        uses=uses_of(endpoint) if endpoint else [],
    )


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _as_sent(call: Call, request: Request) -> Json:
    """Returns the input with URLs that a browser can follow, without what is the endpoint's default."""
    given: Json = render(request.input, call.origin)
    endpoint = catalog.find(request.endpoint_id)
    fields = endpoint.input.model_fields if endpoint else {}
    return {name: value for name, value in given.items() if name not in fields or value != _default(fields[name])}
