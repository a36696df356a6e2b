"""Responses: JSON that any client can read, and errors in exactly the shape fal's clients take apart.

fal has two shapes for them: that of its queue, which jobs and files have too, and that of its platform API.

JSON is always ASCII: one client decodes each network chunk by itself and would tear a longer character apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from tintype.errors import Failure


def to_json(value: Any) -> bytes:
    """Writes compact ASCII JSON; numbers that JSON has no word for become null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Makes a JSON response."""
    return Response(to_json(value), status, dict(headers or {}), media_type="application/json")


def failure_response(failure: Failure, origin: str) -> Response:
    """Makes the response to a request that cannot be served, or whose job failed."""
    headers = {"X-Fal-Billable-Units": "0", **failure.headers}
    return json_response(failure_body(failure, origin), failure.status, headers)


# Of what lies below /v1, only fal's own parts have the platform's errors, those too that are not offered here.
_IS_PLATFORM = re.compile(
    r"/v1/(?:models|keys|meta|account|storage|assets|workflows|serverless|compute|organization)(?:/.*)?", re.DOTALL
)
_PLATFORM_TYPES = {
    401: "authorization_error", 403: "authorization_error", 404: "not_found", 429: "rate_limited",
    501: "not_implemented",
}  # fmt: skip


def is_platform(path: str) -> bool:
    """Tells whether a path is of fal's platform API, which has a shape of errors of its own."""
    return _IS_PLATFORM.fullmatch(path) is not None


def platform_failure_response(failure: Failure, origin: str, request_id: str) -> Response:
    """Makes the response of the platform API to what cannot be served; wrong content is a 400 there."""
    status = 400 if failure.status == 422 else failure.status
    otherwise = "server_error" if status >= 500 else "validation_error"
    body = {
        "type": _PLATFORM_TYPES.get(status, otherwise),
        "message": failure.body["message"],
        "docs_url": f"{origin}/docs/errors",
        "request_id": request_id,
    }
    return json_response({"error": body}, status, failure.headers)


def failure_body(failure: Failure, origin: str) -> dict[str, Any]:
    """fal's body, with the links to what an error means made absolute."""
    return linked_body(failure.body, origin)


def linked_body(body: dict[str, Any], origin: str) -> dict[str, Any]:
    """Makes the links in an error's body absolute."""
    details = body.get("detail")
    if not isinstance(details, list):
        return body
    return {**body, "detail": [_linked(entry, origin) for entry in details]}


def _linked(entry: Any, origin: str) -> Any:
    if isinstance(entry, dict) and str(entry.get("url", "")).startswith("/"):
        return {**entry, "url": origin + entry["url"]}
    return entry
