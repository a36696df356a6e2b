"""Hands requests that were meant for fal to the local server, with another head and the same body.

Only requests are read and written anew; what the server answers goes back byte for byte, so that streams, ranges,
interim answers and hang-ups mean what they mean without a relay. The program's own Authorization is dropped: a real
key of fal's is never checked, stored or logged here. Only whether it asks for a rehearsal is told on.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httptools

from tintype.errors import BadRequest
from tintype.fal import FAL_PROXY_HEADER, REHEARSAL_HEADER, TARGET_HEADER, asks_for_rehearsal, is_fal_host

Header = tuple[bytes, bytes]
Rewrite = Callable[[bytes, list[Header]], tuple[bytes, list[Header]]]  # (target, headers) as they arrive -> as they go

CHUNK = 64 * 1024  # bytes read from a connection at a time
_TARGET = TARGET_HEADER.encode()
_DROPPED = (b"host", b"authorization", b"proxy-authorization", b"proxy-connection", _TARGET, FAL_PROXY_HEADER.encode())


def to_local_server(server: str, key_file: Path) -> Rewrite:
    """Rewrites requests to fal's names: for `server` (host:port), with the local key, by fal's proxy protocol."""

    def rewrite(target: bytes, headers: list[Header]) -> tuple[bytes, list[Header]]:
        url = target
        if target.startswith((b"/", b"*")):  # else the whole URL, as of a proxy
            url = b"https://" + next((value for name, value in headers if name.lower() == b"host"), b"") + target
        host = (urlsplit(url.decode("latin-1")).hostname or "").rstrip(".")
        if not is_fal_host(host):
            raise BadRequest(f"{host[:100]!r} is not one of fal's names.", remedy="Ask for it without the fal proxy.")
        kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
        ours = [(b"Host", server.encode()), (FAL_PROXY_HEADER.encode(), b"1"), (_TARGET, url)]
        if any(
            name.lower() == b"authorization" and asks_for_rehearsal(value.decode("latin-1")) for name, value in headers
        ):
            ours.append((REHEARSAL_HEADER.encode(), b"1"))
        key = key_file.read_text().strip() if key_file.exists() else ""
        if key:
            ours.append((b"Authorization", f"Key {key}".encode()))
        return b"/", [*ours, *kept]

    return rewrite


def from_tls_port(server: str) -> Rewrite:
    """Rewrites requests that know this server and carry a key of it, but came by its TLS port."""

    def rewrite(target: bytes, headers: list[Header]) -> tuple[bytes, list[Header]]:
        kept = [(name, value) for name, value in headers if name.lower() not in (b"host", FAL_PROXY_HEADER.encode())]
        return target, [(b"Host", server.encode()), *kept]

    return rewrite


class RequestRewriter:
    """Takes the bytes of one connection's requests, gives the bytes to send on. `rewrite` may raise BadRequest."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._parser = httptools.HttpRequestParser(self)
        self._out = bytearray()
        self._plain = False  # after an upgrade nothing is HTTP any more
        self.on_message_begin()

    def feed(self, data: bytes) -> bytes:
        """Raises BadRequest, also for what is not HTTP."""
        if self._plain:
            return data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._plain = True
            self._out += data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as problem:
            if isinstance(problem.__context__, BadRequest):
                raise problem.__context__ from None
            raise
        except httptools.HttpParserError:
            raise BadRequest("This is not a request in HTTP/1.1.", remedy="Speak HTTP/1.1.") from None
        out = bytes(self._out)
        self._out.clear()
        return out

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[Header] = []
        self._chunked = self._in_body = False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: nobody here reads any
        self._headers.append((name, value))
        self._chunked |= name.lower() == b"transfer-encoding" and value.strip().lower() == b"chunked"

    def on_headers_complete(self) -> None:
        self._in_body = True
        target, headers = self._rewrite(self._target, self._headers)
        version = self._parser.get_http_version().encode()
        self._out += self._parser.get_method() + b" " + target + b" HTTP/" + version + b"\r\n"
        for name, value in headers:
            self._out += name + b": " + value + b"\r\n"
        self._out += b"\r\n"

    def on_body(self, body: bytes) -> None:
        self._out += b"%x\r\n%b\r\n" % (len(body), body) if self._chunked else body

    def on_message_complete(self) -> None:
        if self._chunked:
            self._out += b"0\r\n\r\n"


async def relay(
    reader: StreamReader, writer: StreamWriter, rewrite: Rewrite, server: tuple[StreamReader, StreamWriter], *,
    begun: bytes = b"",
) -> None:  # fmt: skip
    """Serves one client's connection for as long as both ends keep it. `begun` was read already."""
    from_server, to_server = server
    requests = asyncio.create_task(_requests(reader, to_server, RequestRewriter(rewrite), begun))
    answers = asyncio.create_task(copy(from_server, writer))
    try:
        await asyncio.wait((requests, answers), return_when=asyncio.FIRST_COMPLETED)
        problem = requests.exception() if requests.done() and not requests.cancelled() else None
        if isinstance(problem, BadRequest):
            await refuse(writer, 400, problem.message)
        elif problem is not None:
            raise problem
    finally:
        for task in (requests, answers):
            task.cancel()
        await asyncio.gather(requests, answers, return_exceptions=True)
        await close(to_server)
        await close(writer)


async def _requests(reader: StreamReader, writer: StreamWriter, rewriter: RequestRewriter, begun: bytes) -> None:
    with suppress(OSError):
        while begun or (begun := await reader.read(CHUNK)):
            writer.write(rewriter.feed(begun))
            begun = b""
            await writer.drain()


async def refuse(writer: StreamWriter, status: int, message: str, *headers: str) -> None:
    """Writes an answer of the proxy's own, as every error here is: JSON that says what is wrong."""
    body = json.dumps({"detail": message, "message": message}).encode()
    head = (f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Type: application/json",
            f"Content-Length: {len(body)}", f"x-fal-request-id: {uuid.uuid4()}", "Connection: close",
            *headers)  # fmt: skip
    with suppress(OSError):  # nobody is left to be told
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode() + body)
        await writer.drain()


async def copy(reader: StreamReader, writer: StreamWriter) -> None:
    """Copies until the reader's end, which the writer is told of where it can be."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def close(writer: StreamWriter) -> None:
    """Closes a connection. Gone already is fine."""
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
