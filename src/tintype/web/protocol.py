"""HTTP as it arrives, with the limits that the server beneath has none of: an endless header and a silent caller.

Who may connect need not have a key to make a process hold bytes for ever. So what leads to no progress is bounded in
size (headers, trailers, chunk extensions) and in time (a request that is begun and never finished). What cannot be
read as HTTP is answered as every error here is: in JSON, with a sentence and a request id.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tintype.errors import BadRequest, Failure
from tintype.web.responses import to_json

STATUS_LINE[499] = b"HTTP/1.1 499 Client Closed Request\r\n"  # a phrase that some clients show
MOST_HEAD = 128 * 1024  # bytes of a request that bring it no further
IDLE_SECONDS = 60.0  # without a byte of a request that is not whole


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _progress = False
    _held = 0  # bytes since the last progress
    _in_head = False
    _heard = 0.0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._watch = self.loop.call_later(IDLE_SECONDS, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        self._progress = False
        super().data_received(data)
        self._held = 0 if self._progress else self._held + len(data)
        if self._held > MOST_HEAD and not self.transport.is_closing():
            self._refuse(431, f"The headers of this request are larger than {MOST_HEAD // 1024} KiB.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head, self._progress = False, True

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._progress = True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._progress = True

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: what cannot be upgraded to is answered in HTTP/1.1, and no reason to advise the operator."""

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "This is not a request in HTTP/1.1 that can be read.")

    def _refuse(self, status: int, message: str) -> None:
        """Answers and closes. A response that has begun is only cut off: a second one would be taken for its text."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            failure: Failure = BadRequest(message, remedy="Check the program that sent it.").failure()
            body = to_json(failure.body)
            headers = {
                "content-type": "application/json", "content-length": str(len(body)), "connection": "close",
                "x-fal-request-id": str(uuid.uuid4()), "x-content-type-options": "nosniff", **failure.headers,
            }  # fmt: skip
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + body)
        self.transport.close()

    def _check_idle(self) -> None:
        if self.transport.is_closing():
            return
        now = self.loop.time()
        cycle: Any = self.cycle
        waits = cycle is None or self._in_head or (cycle.more_body and not cycle.response_complete)
        if not waits or self.flow.read_paused:
            self._heard = now  # it is us who are slow
        if now - self._heard >= IDLE_SECONDS:
            self.transport.close()
        else:
            self._watch = self.loop.call_later(self._heard + IDLE_SECONDS - now, self._check_idle)
