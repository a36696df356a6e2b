"""Runs the web process: on a socket that the launcher opened (so that a restart drops no connection), or on its own.

The process belongs to whoever started it: when the pipe named by --parent-fd closes, the starter is gone, however it
went, and this process goes too.

HTTP as it arrives gets the limits that uvicorn has no settings for: an endless header and a silent caller. Who may
connect need not have a key to make a process hold bytes for ever. So what leads to no progress is bounded in size
(headers, trailers, chunk extensions) and in time (a request that is begun and never finished). What cannot be read as
HTTP is answered as every error here is: in JSON, with a sentence and a request id.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import socket
import sys
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tintype.errors import BadRequest, Failure, TintypeError
from tintype.processes import keep_files_private, set_up_log, watch_parent
from tintype.settings import load_settings
from tintype.web.app import create_app
from tintype.web.responses import to_json

STATUS_LINE[499] = b"HTTP/1.1 499 Client Closed Request\r\n"  # a phrase that some clients show
MOST_HEAD = 128 * 1024  # bytes of a request that bring it no further
IDLE_SECONDS = 60.0  # without a byte of a request that is not whole
HEAD_SECONDS = 30.0  # for all of a head, and for the rest of a body that was refused
MOST_UNFINISHED = 256  # connections that have not sent a whole head; beyond them the oldest goes
_GRACE_SECONDS = 3  # how long open connections may take to end after SIGTERM
_BACKLOG = 2048


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves (`python -m tintype.web`) until SIGTERM, SIGINT, or the end of its parent."""
    parser = argparse.ArgumentParser(prog="python -m tintype.web", description="The web process of tintype.")
    parser.add_argument("--fd", type=int, help="an inherited listening socket")
    parser.add_argument("--host", help="address to listen on (without --fd)")
    parser.add_argument("--port", type=int, help="port to listen on (without --fd)")
    parser.add_argument("--parent-fd", type=int, help="an inherited pipe; its end ends this process")
    options = parser.parse_args(arguments)
    keep_files_private()
    if options.parent_fd is not None:
        watch_parent(options.parent_fd)
    set_up_log()
    try:
        settings = load_settings(host=options.host, port=options.port)
    except TintypeError as problem:
        sys.exit(problem.message)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="websockets-sansio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
    )
    for ordered in (signal.SIGTERM, signal.SIGINT):  # uvicorn drains, then raises the signal again: a good end
        signal.signal(ordered, lambda *_: sys.exit(0))
    server = uvicorn.Server(config)
    gc.freeze()  # what was imported is never garbage; looking through it doubles the time of an answer of many parts
    server.run(sockets=None if options.fd is None else [socket.socket(fileno=options.fd)])
    if not server.started:
        sys.exit("The web process could not start; the lines above say why.")


class BoundedProtocol(HttpToolsProtocol):
    """Reads one connection within bounds."""

    _progress = False
    _held = 0  # bytes since the last progress
    _in_head = False
    _heard = 0.0
    _since = 0.0  # when what is waited for now began
    _unfinished: ClassVar[dict[BoundedProtocol, None]] = {}  # in the order in which they began
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._begin_head()
        self._watch = self.loop.call_later(_look_again(), self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._unfinished.pop(self, None)
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
        self._begin_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._unfinished.pop(self, None)
        self._in_head, self._progress = False, True

    def _begin_head(self) -> None:
        self._since = self.loop.time()
        self._unfinished[self] = None
        if len(self._unfinished) > MOST_UNFINISHED:
            oldest = next(iter(self._unfinished))
            del self._unfinished[oldest]
            oldest.transport.close()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._progress = True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._progress = True

    def _unsupported_upgrade_warning(self) -> None:
        """Says nothing: what cannot be upgraded to is answered in HTTP/1.1, and no reason to advise the operator."""

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
        refused = cycle is not None and cycle.more_body and cycle.response_complete
        waits = cycle is None or self._in_head or refused or cycle.more_body
        if not waits or self.flow.read_paused:
            self._heard = self._since = now  # it is us who are slow
        elif not (cycle is None or self._in_head or refused):
            self._since = now  # a body may take as long as it comes
        if now - self._heard >= IDLE_SECONDS or now - self._since >= HEAD_SECONDS:
            self.transport.close()
        else:
            self._watch = self.loop.call_later(_look_again(), self._check_idle)


def _look_again() -> float:
    return min(IDLE_SECONDS, HEAD_SECONDS) / 4
