"""How long a file is kept and who may read it, as fal's clients say it: one JSON object in a header."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest

from tintype.errors import BadRequest, Json
from tintype.files.acl import AccessList

LONGEST_LIFETIME = 100 * 365 * 86400.0  # seconds
_HEADERS = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")  # the first one given counts


@dataclass(frozen=True)
class Lifecycle:
    """`lifetime` in seconds, None for ever; `acl` as files/acl.py writes it, None where the URL is the permission."""

    lifetime: float | None = None
    acl: Json | None = None

    def ends(self, now: float) -> float | None:
        """When a file that is whole now expires (unix seconds)."""
        return None if self.lifetime is None else now + self.lifetime


def lifecycle_of(http: HttpRequest) -> Lifecycle:
    """Of an uploaded file, or of the files of a result. Raises BadRequest."""
    name = next((name for name in _HEADERS if http.headers.get(name)), "")
    if not name:
        return Lifecycle()
    try:
        given = json.loads(http.headers[name])
        lifetime = float(given.get("expiration_duration_seconds") or 0)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise BadRequest(
            f"The header {name} is not an object that was understood.",
            remedy='Send JSON such as {"expiration_duration_seconds": 3600}, or leave it out.',
        ) from None
    if not math.isfinite(lifetime) or lifetime < 0:
        raise BadRequest("expiration_duration_seconds is a number of seconds, at least 0 (0: never).")
    acl = given.get("initial_acl")
    return Lifecycle(min(lifetime, LONGEST_LIFETIME) or None, None if acl is None else acl_of(acl, name))


def acl_of(given: object, name: str) -> Json | None:
    """An access list as it is kept, None for one that keeps nobody out. Raises BadRequest."""
    try:
        acl = AccessList.from_json(given)
    except ValueError as problem:
        raise BadRequest(
            f"{name} holds an access list that was not understood. {problem}",
            remedy='Send JSON such as {"default": "forbid", "rules": [{"user": "…", "decision": "allow"}]}.',
        ) from None
    return None if acl.is_open else acl.to_json()
