"""The proxy's own process on real sockets: who is let in, what is ended here, that everything else passes untouched."""

from __future__ import annotations

import base64
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tintype.fal_proxy.certificates import CertificateAuthority
from tintype.fal_proxy.proxy import UpstreamProxy
from tintype.installation import ServerInfo, open_proxy_sockets


class Echo(socketserver.ThreadingTCPServer):
    """A server that answers each request with its head, as plain text."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Echoing)
        self.context = context
        self.heads: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Echoing(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        connection = self.request
        with suppress(OSError):
            if self.server.context is not None:
                connection = self.server.context.wrap_socket(connection, server_side=True)
            while head := until_blank(connection):
                self.server.heads.append(head)
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(head)}\r\n\r\n{head}".encode())
        with suppress(OSError):
            connection.close()


def until_blank(connection: socket.socket) -> str:
    """A head, up to and with its empty line; what there was of one when the connection ended."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            break
        head += byte
    return head.decode()


@contextmanager
def running(server: socketserver.ThreadingTCPServer) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Around:
    """A fal proxy, the server behind it, and its authority."""

    info: ServerInfo
    server: Echo
    authority: CertificateAuthority

    def client(
        self, upstream: UpstreamProxy | None = None, *, trusting: CertificateAuthority | None = None
    ) -> httpx.Client:
        context = ssl.create_default_context(cafile=str((trusting or self.authority).certificate))
        user = (upstream or UpstreamProxy()).to_username()
        proxy = f"http://{user}:{self.info.password}@127.0.0.1:{self.info.proxy_port}"
        return httpx.Client(proxy=proxy, verify=context, trust_env=False, timeout=30)

    def asked(self, request: str, credentials: str | None = None) -> str:
        """The first line of the proxy's answer."""
        return self.head_of(request, credentials)[0]

    def head_of(self, request: str, credentials: str | None = None) -> list[str]:
        """The proxy's answer, up to its body."""
        given = f"direct:{self.info.password}" if credentials is None else credentials
        basic = base64.b64encode(given.encode()).decode()
        with socket.create_connection(("127.0.0.1", self.info.proxy_port), timeout=30) as connection:
            connection.sendall(f"{request}\r\nProxy-Authorization: Basic {basic}\r\n\r\n".encode())
            return until_blank(connection).splitlines()


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Around]:
    data_dir = tmp_path_factory.mktemp("installation")
    (data_dir / "locks").mkdir()
    (data_dir / "key").write_text("id:local\n")
    with running(Echo()) as echo, open_proxy_sockets(data_dir, f"127.0.0.1:{echo.port}") as sockets:
        assert sockets is not None
        alive, held = os.pipe()
        fds = (sockets.proxy.fileno(), sockets.fal.fileno(), alive)
        command = [sys.executable, "-m", "tintype.fal_proxy", "--proxy-fd", str(fds[0]), "--fal-fd", str(fds[1])]
        environment = os.environ | {"TINTYPE_DATA_DIR": str(data_dir)}
        process = subprocess.Popen([*command, "--parent-fd", str(alive)], env=environment, pass_fds=fds, umask=0o022)
        yield Around(sockets.server, echo, CertificateAuthority.open(data_dir))
        os.close(held)  # its parent is gone: it goes too
        process.wait(30)
        os.close(alive)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Somebody else's authority."""
    return CertificateAuthority.open(tmp_path_factory.mktemp("elsewhere"))


def test_fals_names_are_ended_here_and_come_to_the_server_with_its_key(around: Around) -> None:
    with around.client() as client:
        for _ in range(2):  # on one connection
            answer = client.post("https://queue.fal.run/a/b?c=d", headers={"Authorization": "Key real"})
    assert answer.text == around.server.heads[-1]
    assert "x-fal-target-url: https://queue.fal.run/a/b?c=d\r\nAuthorization: Key id:local\r\n" in answer.text
    assert "real" not in answer.text


@pytest.mark.parametrize("credentials", ["", "direct:wrong", "nonsense", "direct:", "é:"])
def test_nobody_gets_in_without_the_password(around: Around, credentials: str) -> None:
    answer = around.asked("CONNECT fal.run:443 HTTP/1.1", credentials)
    assert answer == "HTTP/1.1 407 Proxy Authentication Required"


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        ("CONNECT fal.run:80 HTTP/1.1", "HTTP/1.1 403 Forbidden"),
        ("CONNECT Queue.FAL.run.:80 HTTP/1.1", "HTTP/1.1 403 Forbidden"),
        ("CONNECT 127.0.0.1:1 HTTP/1.1", "HTTP/1.1 502 Bad Gateway"),
        ("CONNECT nowhere HTTP/1.1", "HTTP/1.1 502 Bad Gateway"),
        ("GET / HTTP/1.1", "HTTP/1.1 400 Bad Request"),
        ("\x16\x03\x01", "HTTP/1.1 400 Bad Request"),
    ],
)
def test_what_cannot_be_answered_or_reached_is_refused(around: Around, request_line: str, answer: str) -> None:
    head = around.head_of(request_line)
    assert head[0] == answer
    assert {line.partition(":")[0].lower() for line in head[1:]} >= {"content-type", "x-fal-request-id"}


def test_other_hosts_show_their_own_certificate_through_the_tunnel(
    around: Around, theirs: CertificateAuthority
) -> None:
    before = len(around.server.heads)
    with running(Echo(theirs.server_context())) as other:
        with around.client(trusting=theirs) as client:
            answer = client.get(f"https://localhost:{other.port}/path", headers={"Authorization": "Bearer x"})
        assert "Authorization: Bearer x" in answer.text
        with around.client() as client, pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            client.get(f"https://localhost:{other.port}/path")
    assert len(around.server.heads) == before


class _Company(socketserver.BaseRequestHandler):
    """A proxy of the person's own, which notes what it is asked for."""

    def handle(self) -> None:
        head = until_blank(self.request)
        self.server.heads.append(head)  # type: ignore[attr-defined]
        port = int(head.split()[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as end, suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pour, args=(end, self.request))
            back.start()
            _pour(self.request, end)
            back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_other_hosts_are_reached_by_the_programs_own_proxy_but_for_its_exceptions(
    around: Around, theirs: CertificateAuthority
) -> None:
    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Company)
    proxy.daemon_threads = True
    heads = proxy.heads = []  # type: ignore[attr-defined]
    with running(Echo(theirs.server_context())) as other, running(proxy):
        own = f"http://me:secret@127.0.0.1:{proxy.server_address[1]}"
        for direct in ("", "localhost"):
            with around.client(UpstreamProxy(own, direct), trusting=theirs) as client:
                assert client.get(f"https://localhost:{other.port}/").status_code == 200
    assert len(heads) == 1
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:secret').decode()}" in heads[0]


class _Listener(socketserver.BaseRequestHandler):
    """Answers when the other end has said all it had to say."""

    def handle(self) -> None:
        heard = 0
        while data := self.request.recv(65536):
            heard += len(data)
        self.request.sendall(f"{heard} bytes".encode())


def test_an_end_that_has_finished_speaking_is_still_answered(around: Around) -> None:
    basic = base64.b64encode(f"direct:{around.info.password}".encode()).decode()
    with running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Listener)) as other:
        port = other.server_address[1]
        with socket.create_connection(("127.0.0.1", around.info.proxy_port), timeout=30) as connection:
            head = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
            connection.sendall(head.encode())
            assert until_blank(connection).startswith("HTTP/1.1 200 ")
            connection.sendall(bytes(1_000_000))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b"1000000 bytes"


def test_whole_urls_are_taken_too(around: Around) -> None:
    """Some clients ask a proxy for https as if it were http."""
    assert around.asked("GET https://fal.run/a/b HTTP/1.1\r\nHost: fal.run") == "HTTP/1.1 200 OK"
    assert "x-fal-target-url: https://fal.run/a/b\r\n" in around.server.heads[-1]
    with running(Echo()) as other:
        asked = f"GET http://127.0.0.1:{other.port}/x?y=z HTTP/1.1\r\nHost: h"
        assert around.asked(asked) == "HTTP/1.1 200 OK"
        assert other.heads == ["GET /x?y=z HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]
