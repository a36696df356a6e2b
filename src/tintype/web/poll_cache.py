"""Status answers kept for the next poll: fal's Python client asks ten times a second, mostly for what it knows.

`StatusCache` spares what is asked of the database. `ReplayMiddleware` spares the rest: a poll that equals an earlier
one byte for byte, all headers included, gets that one's response before anything else is done, as long as the request
has not changed and the key was looked at a moment ago. Whatever differs, or is in doubt, goes the whole way.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tintype.store.keys import REMEMBERED_SECONDS

REPEATED_BYTES = 32 * 1024 * 1024
_POLL_BYTES = 2000  # about what is kept of a poll beside its answer
MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class CachedStatus:
    """Holds a body that is right as long as the request has this version, and no longer than `until` (monotonic)."""

    version: int
    until: float
    code: int
    body: bytes


class StatusCache:
    """Keeps the responses used last, within MOST_BYTES."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._answers: OrderedDict[tuple[str, ...], CachedStatus] = OrderedDict()
        self._bytes = 0
        self._most_bytes = most_bytes

    def get(self, key: tuple[str, ...], version: int, now: float) -> CachedStatus | None:
        """Returns the response, if it still holds."""
        answer = self._answers.get(key)
        if answer is None or answer.version != version or answer.until < now:
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: tuple[str, ...], answer: CachedStatus) -> None:
        """Keeps a response, at the cost of those not used for longest."""
        earlier = self._answers.pop(key, None)
        self._bytes += len(answer.body) - (len(earlier.body) if earlier else 0)
        self._answers[key] = answer
        while self._bytes > self._most_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest.body)


Poll = tuple[str, bytes, str, tuple[tuple[bytes, bytes], ...]]  # path, query, scheme, headers: all that a poll says


def poll_of(scope: Scope) -> Poll | None:
    """Returns what is asked, if it is a status."""
    if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].endswith(("/status", "/status/")):
        return None
    return scope["path"], scope["query_string"], scope["scheme"], tuple(scope["headers"])


class CachedResponse(NamedTuple):
    """Holds what a poll was answered, ready to be sent again until `until` (monotonic) while the request has
    `version`."""

    request_id: str
    version: int
    until: float
    messages: tuple[Message, Message]


class ReplayCache:
    """Keeps the polls of the last moments, within REPEATED_BYTES.

    A client that adds a number to every poll must not fill the memory. When it is full all are forgotten, which costs
    each poller the whole way once.
    """

    def __init__(self) -> None:
        self._told: dict[Poll, CachedResponse] = {}
        self._bytes = 0

    def get(self, poll: Poll, now: float) -> CachedResponse | None:
        """Returns what a poll was answered, unless that is too long ago."""
        told = self._told.get(poll)
        return told if told is not None and now < told.until else None

    def put(
        self, poll: Poll, request_id: str, answer: CachedStatus, headers: Sequence[tuple[bytes, bytes]], now: float
    ) -> None:
        """Keeps an answer for as long as a key need not be looked at again."""
        earlier = self._told.pop(poll, None)
        self._bytes += len(answer.body) - (len(earlier.messages[1]["body"]) if earlier else -_POLL_BYTES)
        if self._bytes > REPEATED_BYTES:
            self._told.clear()
            self._bytes = len(answer.body) + _POLL_BYTES
        messages = (
            {"type": "http.response.start", "status": answer.code, "headers": list(headers)},
            {"type": "http.response.body", "body": answer.body},
        )
        until = min(answer.until, now + REMEMBERED_SECONDS)
        self._told[poll] = CachedResponse(request_id, answer.version, until, messages)


class ReplayMiddleware:
    """Answers repeated polls. A handler that finds its response repeatable says so in the request's state, as
    `repeatable`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cache = ReplayCache()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        poll = poll_of(scope)
        if poll is None:
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        cached = self._cache.get(poll, time.monotonic())
        if cached is not None and await state["services"].store.requests.version(cached.request_id) == cached.version:
            for message in cached.messages:
                await send(message)
            return
        headers: Sequence[tuple[bytes, bytes]] = ()

        async def note_headers(message: Message) -> None:
            nonlocal headers
            headers = message.get("headers", headers)
            await send(message)

        await self._app(scope, receive, note_headers)
        repeatable: CachedStatus | None = state.get("repeatable")
        if repeatable is not None:
            self._cache.put(poll, state["request_id"], repeatable, headers, time.monotonic())
