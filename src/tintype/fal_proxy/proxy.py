"""The proxy that a program's environment names: ends what is meant for fal here, and tunnels the rest untouched.

It listens on loopback and lets nobody in without the password of its URL. The user name in that URL says how the
program would have reached the rest by itself (`UpstreamProxy`): one proxy serves programs that have their own.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from tintype.errors import BadRequest
from tintype.fal import is_fal_host
from tintype.fal_proxy.relay import Header, Rewrite, close, copy, from_tls_port, refuse, relay, to_local_server
from tintype.installation import ServerInfo

HEAD_SECONDS = 30.0
CONNECT_SECONDS = 60.0
SHUTDOWN_SECONDS = 5.0  # for a client to say goodbye in TLS
MOST_HEAD = 64 * 1024

Ends = tuple[StreamReader, StreamWriter]
Accept = Callable[[StreamReader, StreamWriter], None]


@dataclass(frozen=True)
class UpstreamProxy:
    """Reaches hosts that are not fal's as a program does: by its own proxy ("" for none), except for `direct`."""

    proxy: str = ""
    direct: str = ""  # as in NO_PROXY

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> UpstreamProxy:
        def get(name: str) -> str:
            return environment.get(name.lower()) or environment.get(name.upper()) or ""

        return cls(get("https_proxy") or get("all_proxy"), get("no_proxy"))

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.proxy if "//" in self.proxy else f"http://{self.proxy}")

    def to_username(self) -> str:
        """Returns it as the user name of our proxy's URL."""
        if not self.proxy:
            return "direct"
        return base64.urlsafe_b64encode(json.dumps([self.proxy, self.direct]).encode()).decode().rstrip("=")

    @classmethod
    def from_username(cls, user: str) -> UpstreamProxy:
        if user == "direct":
            return cls()
        proxy, direct = json.loads(base64.urlsafe_b64decode(user + "=" * (-len(user) % 4)))
        return cls(str(proxy), str(direct))

    async def open(self, host: str, port: int) -> Ends:
        """Connects to host:port. Raises OSError."""
        if not self.proxy or proxy_bypass_environment(host, {"no": self.direct}):
            return await asyncio.open_connection(host, port, happy_eyeballs_delay=0.25)
        proxy = self.url
        secure = proxy.scheme == "https"
        ends = await asyncio.open_connection(proxy.hostname, proxy.port or (443 if secure else 80), ssl=secure or None)
        head = f"CONNECT {_joined(host, port)} HTTP/1.1\r\nHost: {_joined(host, port)}\r\n"
        if proxy.username is not None:
            credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            head += f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}\r\n"
        ends[1].write(head.encode("latin-1") + b"\r\n")
        answer = await ends[0].readuntil(b"\r\n\r\n")
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            await close(ends[1])
            raise ConnectionRefusedError(f"the proxy {proxy.hostname} answered {answer.splitlines()[0].decode()}")
        return ends


class Proxy:
    """Answers on the sockets of the fal proxy."""

    def __init__(self, server: ServerInfo, key_file: Path, context: ssl.SSLContext) -> None:
        self._server = server
        self._to_local_server = to_local_server(server.server, key_file)
        self._from_tls_port = from_tls_port(server.server)
        self._context = context
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, proxy: int, fal: int, tls: int | None) -> None:
        """Serves inherited sockets until ended: the proxy, fal's names behind TLS, this server's own behind TLS."""
        secure: dict[str, Any] = {"ssl": self._context, "ssl_shutdown_timeout": SHUTDOWN_SECONDS}
        answer_fal = self._held(partial(self._relay, rewrite=self._to_local_server))
        answer_own = self._held(partial(self._relay, rewrite=self._from_tls_port))
        servers = [
            await asyncio.start_server(self._held(self._proxy), sock=socket.socket(fileno=proxy), limit=MOST_HEAD),
            await asyncio.start_unix_server(answer_fal, sock=socket.socket(fileno=fal), **secure),
        ]
        if tls is not None:
            servers.append(await asyncio.start_server(answer_own, sock=socket.socket(fileno=tls), **secure))
        await asyncio.gather(*(server.serve_forever() for server in servers))

    def _held(self, answer: Callable[[StreamReader, StreamWriter], Coroutine[Any, Any, None]]) -> Accept:
        """Holds a task for each connection: of one whose ends are both waiting, asyncio itself holds no part."""

        async def answered(reader: StreamReader, writer: StreamWriter) -> None:
            try:
                await answer(reader, writer)
            finally:
                await close(writer)

        def accept(reader: StreamReader, writer: StreamWriter) -> None:
            task = asyncio.create_task(answered(reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        return accept

    async def _relay(self, reader: StreamReader, writer: StreamWriter, *, rewrite: Rewrite, begun: bytes = b"") -> None:
        host, _, port = self._server.server.rpartition(":")
        try:
            server = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as problem:
            await refuse(writer, 502, f"tintype's server is not there: {problem}.")
            return
        await relay(reader, writer, rewrite, server, begun=begun)

    async def _proxy(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            method, target, headers = _parsed(head)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        except BadRequest as problem:
            await refuse(writer, 400, problem.message)
            return
        upstream = self._admitted(headers)
        if upstream is None:
            again = "This fal proxy is another one: run the program by `tintype run`, or paste `tintype env` again."
            await refuse(writer, 407, again, 'Proxy-Authenticate: Basic realm="tintype"')
            return
        try:
            if method == "CONNECT":
                await self._tunnel((reader, writer), target, upstream)
            else:
                await self._whole_url((reader, writer), target, upstream, head)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as problem:
            await refuse(writer, 502, f"{target[:200]} cannot be reached: {problem}.")

    def _admitted(self, headers: list[Header]) -> UpstreamProxy | None:
        given = next((value for name, value in headers if name.lower() == b"proxy-authorization"), b"")
        try:
            user, _, password = base64.b64decode(given.partition(b" ")[2]).decode().partition(":")
            return UpstreamProxy.from_username(user) if hmac.compare_digest(password, self._server.password) else None
        except (ValueError, TypeError):
            return None

    async def _tunnel(self, client: Ends, target: str, upstream: UpstreamProxy) -> None:
        host, port = _split(target)
        if not is_fal_host(host):
            async with asyncio.timeout(CONNECT_SECONDS):
                ends = await upstream.open(host, port)
        elif port == 443:
            ends = await asyncio.open_unix_connection(self._server.fal_socket)
        else:
            await refuse(client[1], 403, "Of fal's names only https on port 443 is answered here.")
            return
        client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:  # both ways, each until its own end
            await asyncio.gather(copy(client[0], ends[1]), copy(ends[0], client[1]))
        finally:
            await close(ends[1])
            await close(client[1])

    async def _whole_url(self, client: Ends, target: str, upstream: UpstreamProxy, head: bytes) -> None:
        """Serves clients that ask a proxy for https URLs as if they were http, and leave the encryption to it."""
        url = urlsplit(target)
        if url.scheme not in ("http", "https") or not url.hostname:
            await refuse(client[1], 400, "This is a proxy: it takes CONNECT and whole URLs.")
            return
        if is_fal_host(url.hostname):
            await self._relay(*client, rewrite=self._to_local_server, begun=head)
            return
        port = url.port or (443 if url.scheme == "https" else 80)
        async with asyncio.timeout(CONNECT_SECONDS):
            ends = await upstream.open(url.hostname, port)
            if url.scheme == "https":
                await ends[1].start_tls(ssl.create_default_context(), server_hostname=url.hostname)
        await relay(*client, _origin_form, ends, begun=head)


def _origin_form(target: bytes, headers: list[Header]) -> tuple[bytes, list[Header]]:
    """Rewrites a request as a proxy sends it on. One request a connection: the next may be for another host."""
    url = urlsplit(target.decode("latin-1"))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    dropped = (b"proxy-authorization", b"proxy-connection", b"connection")
    kept = [(name, value) for name, value in headers if name.lower() not in dropped]
    return path.encode("latin-1"), [*kept, (b"Connection", b"close")]


def _parsed(head: bytes) -> tuple[str, str, list[Header]]:
    first, *lines = head.split(b"\r\n")
    parts = first.decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest("This is not a request to a proxy.", remedy="Its URL is in HTTPS_PROXY.")
    pairs = (line.partition(b":") for line in lines if line)
    return parts[0], parts[1], [(name.strip(), value.strip()) for name, _, value in pairs]


def _split(target: str) -> tuple[str, int]:
    """Raises ValueError."""
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
