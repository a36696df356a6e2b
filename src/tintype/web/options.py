"""What a caller says about a request beside its input: fal's headers and query parameters, read strictly.

A header that is misspelt in its value is an error, not a default: a deadline that is silently dropped costs more than a
400. An empty one says nothing.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from starlette.requests import Request as HttpRequest

from tintype.errors import BadRequest, Json
from tintype.fal import REHEARSAL_HEADER, asks_for_rehearsal
from tintype.files.acl import AccessList
from tintype.files.addresses import parsed_url
from tintype.store.records import RETRIED, Priority
from tintype.web.services import Call

LONGEST_LIFETIME = 100 * 365 * 86400.0  # seconds
_LIFECYCLE_HEADERS = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")  # the first one given counts
_SHORTEST_TIMEOUT = 0.1  # seconds
_MOST_TAGS = 10
_MOST_RETRIES = 10  # as many as fal's own
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_SWITCH: Json = {"type": "string", "enum": ["0", "1"]}
_LABEL: Json = {"type": "string", "maxLength": 255}
#: What `options_of` and `lifecycle_of` read, as OpenAPI describes it: place, name, schema.
OPTIONS: tuple[tuple[str, str, Json], ...] = (
    ("query", "fal_webhook", {"type": "string", "format": "uri", "maxLength": 2048}),
    ("query", "fal_max_queue_length", {"type": "integer", "minimum": 0, "maximum": 10**9 - 1}),
    ("header", "X-Fal-Queue-Priority", {"type": "string", "enum": [*Priority]}),
    ("header", "X-Fal-Request-Timeout", {"type": "number", "minimum": _SHORTEST_TIMEOUT, "exclusiveMinimum": True}),
    ("header", "X-Fal-Runner-Hint", _LABEL),
    ("header", "X-Fal-Store-IO", _SWITCH),
    ("header", "X-Fal-No-Retry", _SWITCH),
    ("header", "X-Fal-Retry-Config", {"type": "string", "description": "JSON"}),
    ("header", "X-Tintype-Rehearsal", _SWITCH),
    ("header", "X-Fal-Tags", {"type": "string"}),
    ("header", "X-Fal-Object-Lifecycle-Preference", {"type": "string", "description": "JSON"}),
    ("header", "X-Idempotency-Key", _LABEL),
)


@dataclass(frozen=True)
class Lifecycle:
    """Says how long a file is kept and who may read it."""

    lifetime: float | None = None  # seconds; None for ever
    acl: Json | None = None  # as files/acl.py writes it; None where the URL is the permission

    def ends(self, now: float) -> float | None:
        """Tells when a file that is whole now expires (unix seconds)."""
        return None if self.lifetime is None else now + self.lifetime


@dataclass(frozen=True)
class Options:
    """Holds all that is said about one request."""

    priority: Priority = Priority.NORMAL
    start_deadline: float | None = None  # unix seconds
    idempotency_key: str | None = None
    hint: str = ""
    webhook_url: str | None = None
    max_queue_length: int | None = None
    store_io: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    retries: dict[str, int] | None = None  # see NewRequest
    is_rehearsal: bool = False  # runs on the miniatures


def options_of(http: HttpRequest) -> Options:
    """Reads headers and query. Raises BadRequest."""
    headers, query = _Said(http.headers), _Said(http.query_params)
    return Options(
        priority=_priority(headers["x-fal-queue-priority"]),
        start_deadline=_deadline(headers["x-fal-request-timeout"]),
        idempotency_key=_plain_text(
            "x-idempotency-key", headers["x-idempotency-key"] or headers["idempotency-key"], 255
        ),
        hint=_plain_text("x-fal-runner-hint", headers["x-fal-runner-hint"], 255) or "",
        webhook_url=_webhook(query["fal_webhook"]),
        max_queue_length=_length(query["fal_max_queue_length"]),
        store_io=_yes("x-fal-store-io", headers["x-fal-store-io"], otherwise=True),
        tags=_tags(headers["x-fal-tags"]),
        retries=_retries(headers["x-fal-no-retry"], headers["x-fal-retry-config"]),
        is_rehearsal=_yes(REHEARSAL_HEADER, headers[REHEARSAL_HEADER], otherwise=False)
        or asks_for_rehearsal(http.headers.get("authorization", ""))
        or getattr(http.state, "is_rehearsal", False),  # its key did, as the token says
    )


class _Said:
    """Reads headers or a query; None for what is absent, empty or blank."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def __getitem__(self, name: str) -> str | None:
        return self._given.get(name, "").strip() or None


def _priority(text: str | None) -> Priority:
    try:
        return Priority((text or Priority.NORMAL).lower())
    except ValueError:
        raise BadRequest(f"x-fal-queue-priority is normal or low, not {text!r}.") from None


def _deadline(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > _SHORTEST_TIMEOUT or seconds > LONGEST_LIFETIME:
        raise BadRequest(
            f"x-fal-request-timeout is a number of seconds above {_SHORTEST_TIMEOUT:g}, not {text[:50]!r}.",
            remedy="It bounds how long the request may wait to start.",
        )
    return time.time() + seconds


def _plain_text(name: str, text: str | None, longest: int) -> str | None:
    if not text:
        return None
    if len(text) > longest or not text.isprintable():
        raise BadRequest(f"{name} is at most {longest} printable characters.")
    return text


def _yes(name: str, text: str | None, *, otherwise: bool) -> bool:
    if not text:
        return otherwise
    word = text.lower()
    if word not in _YES + _NO:
        raise BadRequest(f"{name} is 1 or 0, not {text[:50]!r}.")
    return word in _YES


def _retries(none: str | None, config: str | None) -> dict[str, int] | None:
    if _yes("x-fal-no-retry", none, otherwise=False):
        return dict.fromkeys(RETRIED, 0)
    if not config:
        return None
    try:
        given = {name: part["retries"] for name, part in json.loads(config).items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        given = {"": None}
    if not all(name in RETRIED and type(count) is int and 0 <= count <= _MOST_RETRIES for name, count in given.items()):
        raise BadRequest(
            "The header x-fal-retry-config was not understood.",
            remedy=f'Send JSON such as {{"server_error": {{"retries": 2}}}}; there are {", ".join(RETRIED)}, '
            f"and at most {_MOST_RETRIES} retries.",
        )
    return given


def _webhook(url: str | None) -> str | None:
    if not url:
        return None
    refusal = BadRequest("fal_webhook is an http(s) URL of at most 2048 characters.")
    if len(url) > 2048 or not url.isprintable():
        raise refusal
    try:
        parsed = parsed_url(url)
    except httpx.InvalidURL:
        raise refusal from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise refusal
    return url


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"fal_max_queue_length is a whole number, not {text[:50]!r}.")
    return int(text)


def _tags(text: str | None) -> dict[str, str]:
    """Reads `key=value` pairs between commas; what is not of that form is left out: tags change nothing about the
    work."""
    pairs = re.findall(r"(?:^|,)\s*([a-z0-9._-]{1,64})=([^,]{0,256})", text or "")
    return {name: value.strip() for name, value in pairs[:_MOST_TAGS] if value.isprintable()}


async def lifecycle_for(call: Call) -> Lifecycle:
    """Tells the lifecycle of an uploaded file, or of the files of a result: as the request says, else as the caller's
    settings do. Raises BadRequest."""
    return lifecycle_of(call.http) or Lifecycle(*await call.store.files.settings_of(call.owner))


def lifecycle_of(http: HttpRequest) -> Lifecycle | None:
    """Reads what a request says of a lifecycle; None where it says nothing. Raises BadRequest."""
    name = next((name for name in _LIFECYCLE_HEADERS if http.headers.get(name)), "")
    if not name:
        return None
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
    return Lifecycle(min(lifetime, LONGEST_LIFETIME) or None, None if acl in (None, "") else acl_of(acl, name))


def acl_of(given: object, name: str) -> Json | None:
    """Checks an access list; None for one that keeps nobody out. Raises BadRequest."""
    try:
        acl = AccessList.from_json(given)
    except ValueError as problem:
        raise BadRequest(
            f"{name} holds an access list that was not understood. {problem}",
            remedy='Send JSON such as {"default": "forbid", "rules": [{"user": "…", "decision": "allow"}]}.',
        ) from None
    return None if acl.is_open else acl.to_json()
