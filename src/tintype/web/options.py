"""What a caller says about a request beside its input: fal's headers and query parameters, read strictly.

A header that is misspelt in its value is an error, not a default: a deadline that is silently dropped costs more than a
400.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field

import httpx
from starlette.requests import Request as HttpRequest

from tintype.errors import BadRequest
from tintype.files.addresses import parsed_url
from tintype.queue.records import Priority
from tintype.web.lifecycle import LONGEST_LIFETIME, Lifecycle, lifecycle_of

_SHORTEST_TIMEOUT = 0.1  # seconds
_MOST_TAGS = 10


@dataclass(frozen=True)
class Options:
    """See the module's text."""

    priority: Priority = Priority.NORMAL
    start_deadline: float | None = None  # unix seconds
    idempotency_key: str | None = None
    hint: str = ""
    webhook_url: str | None = None
    max_queue_length: int | None = None
    store_io: bool = True
    files: Lifecycle = field(default_factory=Lifecycle)  # of the result
    tags: dict[str, str] = field(default_factory=dict)


def options_of(http: HttpRequest) -> Options:
    """Raises BadRequest."""
    headers, query = http.headers, http.query_params
    return Options(
        priority=_priority(headers.get("x-fal-queue-priority")),
        start_deadline=_deadline(headers.get("x-fal-request-timeout")),
        idempotency_key=_plain_text(
            "x-idempotency-key", headers.get("x-idempotency-key") or headers.get("idempotency-key"), 255
        ),
        hint=_plain_text("x-fal-runner-hint", headers.get("x-fal-runner-hint"), 255) or "",
        webhook_url=_webhook(query.get("fal_webhook")),
        max_queue_length=_length(query.get("fal_max_queue_length")),
        store_io=headers.get("x-fal-store-io", "1").strip() != "0",
        files=lifecycle_of(http),
        tags=_tags(headers.get("x-fal-tags")),
    )


def _priority(text: str | None) -> Priority:
    try:
        return Priority((text or Priority.NORMAL).strip().lower())
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
    """`key=value` pairs between commas; what is not of that form is left out: tags change nothing about the work."""
    pairs = re.findall(r"(?:^|,)\s*([a-z0-9._-]{1,64})=([^,]{0,256})", text or "")
    return {name: value.strip() for name, value in pairs[:_MOST_TAGS] if value.isprintable()}
