"""What a client really asks for: bytes pass through here untouched, and every request and its answer is written down.

URLs in answers are made from the Host header, so a client that begins here comes back here.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools


@dataclass
class Exchange:
    """A request, and the status of the answer to it (0 while there is none)."""

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    request_id: str = ""

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


class _Asked:
    """Reads what a client sends on one connection."""

    def __init__(self, started: Callable[[Exchange], None]) -> None:
        self._started = started
        self._target, self._headers = b"", dict[str, str]()
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", {}

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._started(Exchange(self.parser.get_method().decode(), self._target.decode(), self._headers))


class _Answered:
    """Reads what the server answers on one connection; interim answers (100 Continue) are not the answer."""

    def __init__(self, pending: list[Exchange]) -> None:
        self._pending = pending
        self._request_id = ""
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-fal-request-id":
            self._request_id = value.decode()

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status >= 200:
            exchange = next(exchange for exchange in self._pending if not exchange.status)
            exchange.status, exchange.request_id = status, self._request_id


class Wiretap(socketserver.ThreadingTCPServer):
    """Listens on a port of its own and passes everything on to one server."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, origin: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = (urlsplit(origin).hostname or "", urlsplit(origin).port or 80)
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"
        self.heard: list[Exchange] = []
        self.losing = 0  # how many of the next answers never reach their client
        self.losing_to = ""  # only answers to this method; to any, where it is not set

    @property
    def lines(self) -> list[str]:
        """Method and target of every request, in order."""
        return [exchange.line for exchange in self.heard]


class _Connection(socketserver.BaseRequestHandler):
    server: Wiretap

    def handle(self) -> None:
        pending: list[Exchange] = []

        def started(exchange: Exchange) -> None:
            pending.append(exchange)
            self.server.heard.append(exchange)

        answers = _Answered(pending).parser

        def answered(data: bytes) -> None:
            answers.feed_data(data)
            if self.server.losing and self.server.losing_to in ("", pending[-1].method):
                self.server.losing -= 1
                raise ConnectionAbortedError

        with socket.create_connection(self.server.upstream) as onward:
            back = threading.Thread(target=_pass, args=(onward, self.request, answered))
            back.start()
            _pass(self.request, onward, _Asked(started).parser.feed_data)
            back.join()


def _pass(source: socket.socket, target: socket.socket, read: Callable[[bytes], object]) -> None:
    with contextlib.suppress(OSError):  # either side may hang up at any time
        while data := source.recv(65536):
            read(data)
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tapping(origin: str) -> Iterator[Wiretap]:
    """A wiretap in front of a server."""
    with Wiretap(origin) as tap:
        thread = threading.Thread(target=tap.serve_forever, daemon=True)
        thread.start()
        yield tap
        tap.shutdown()
        thread.join()
