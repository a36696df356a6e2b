from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.support.web_server import WebServer

from tintype.processes import ORPHANED
from tintype.web import server as server_module


class Process:
    """`python -m tintype.web` on an inherited socket, with a pipe whose end is its end."""

    def __init__(self, folder: Path, **settings: str) -> None:
        environment = {**os.environ, "TINTYPE_DATA_DIR": str(folder), "TINTYPE_AUTH": "off", **settings}
        reading, self.lifeline = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tintype.web", "--fd", str(listener.fileno()), "--parent-fd", str(reading)],
                pass_fds=(listener.fileno(), reading),
                env=environment,
                umask=0o022,
            )
        os.close(reading)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.origin + path, trust_env=False, timeout=60)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.lifeline >= 0:
            os.close(self.lifeline)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path)
    yield running
    running.end()


def test_it_answers_from_the_inherited_socket_and_stays_small_without_torch(process: Process) -> None:
    assert process.get("/health").json() == {"status": "ok"}
    for path in ("/openapi.json", "/models/fal-ai/flux-lora/llms.txt", "/v1/models?expand=openapi-3.0", "/ready"):
        assert process.get(path).content
    memory = psutil.Process(process.process.pid)
    assert memory.memory_info().rss < 150 * 1024 * 1024
    assert not [entry.path for entry in memory.memory_maps() if "torch" in entry.path]


def test_it_ends_when_its_parent_is_gone(process: Process) -> None:
    process.get("/health")
    os.close(process.lifeline)
    process.lifeline = -1
    assert process.process.wait(30) == ORPHANED


@pytest.mark.parametrize("ordered", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_told_to_even_with_a_stream_open(process: Process, ordered: Any) -> None:
    body = {"prompt": "nobody will draw this"}
    url = httpx.post(f"{process.origin}/queue/fal-ai/flux-lora", json=body, trust_env=False, timeout=60).json()
    with httpx.stream("GET", url["status_url"] + "/stream", trust_env=False, timeout=60) as events:
        next(events.iter_lines())
        process.process.send_signal(ordered)
        assert process.process.wait(30) == 0


def test_what_it_answered_with_an_id_is_there_after_a_kill(process: Process, tmp_path: Path) -> None:
    body = {"prompt": "kept"}
    answer = httpx.post(f"{process.origin}/queue/fal-ai/flux-lora", json=body, trust_env=False, timeout=60).json()
    uploaded = httpx.post(f"{process.origin}/cdn/files/upload", content=b"kept", trust_env=False).json()["access_url"]
    process.process.kill()
    process.process.wait()
    again = Process(tmp_path)
    try:
        assert again.get(f"/queue/a/b/requests/{answer['request_id']}/status").json()["status"] == "IN_QUEUE"
        assert again.get(httpx.URL(uploaded).path).content == b"kept"
    finally:
        again.end()


def test_a_misspelt_setting_is_told_at_once(tmp_path: Path) -> None:
    running = Process(tmp_path, TINTYPE_PROT="1")
    try:
        assert running.process.wait(60) == 1
    finally:
        running.end()


def test_it_listens_by_itself_when_no_socket_is_given(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tintype.web", "--port", str(port)],
        env={**os.environ, "TINTYPE_DATA_DIR": str(tmp_path)},
        umask=0o022,
    )
    try:
        ends = time.monotonic() + 60
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=60)
                break
            except httpx.ConnectError:
                assert time.monotonic() < ends
                time.sleep(0.05)
        assert answer.status_code == 200
    finally:
        process.terminate()
        assert process.wait(30) == 0


def connect(server: WebServer) -> socket.socket:
    host, port = server.origin.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def whole(connection: socket.socket) -> bytes:
    """All that is said until the other side closes (a reset is a close)."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def refused(said: bytes) -> int:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"x-fal-request-id: " in head
    assert json.loads(body)["error_type"] == "bad_request"
    return int(head.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nA\0: b\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"],
)
def test_what_is_not_http_is_answered_in_json(server: WebServer, sent: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        assert refused(whole(connection)) == 400


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: ", b"a"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n"),
        (b"GET /", b"a"),
    ],
    ids=["one header", "many headers", "path"],
)
def test_endless_headers_are_refused_instead_of_kept(server: WebServer, start: bytes, more: bytes) -> None:
    with connect(server) as connection:
        try:
            connection.sendall(start)
            while connection.send(more * (65536 // len(more))):
                connection.settimeout(0.01)
                try:
                    said = connection.recv(65536)
                    break
                except TimeoutError:
                    connection.settimeout(60)
        except (BrokenPipeError, ConnectionResetError):
            return  # closed before its word was read
        assert said == b"" or said.split(b" ")[1] in (b"400", b"431")


def test_endless_trailers_end_the_connection(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    head = f"POST /queue/fal-ai/flux-lora HTTP/1.1\r\nHost: localhost\r\nAuthorization: Key {server.key}\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"A: b\r\n" * 2_000_000)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health HTTP/1.1\r\n", b"POST /queue/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"],
)
def test_a_request_that_stands_still_is_let_go(
    start: Callable[..., WebServer], begun: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.2)
    server = start(data_dir=tmp_path, auth="off")
    with connect(server) as connection:
        connection.sendall(begun)
        whole(connection)  # or the socket's own timeout fails the test


def test_a_request_that_comes_slowly_and_an_answer_that_is_slow_are_not_cut_off(
    start: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.5)
    server = start(data_dir=tmp_path, auth="off")
    server.hold()
    body = b'{"prompt": "slow"}'
    head = f"POST /run/fal-ai/flux-lora HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode())
        for at in range(0, len(body), 6):
            time.sleep(0.2)
            connection.sendall(body[at : at + 6])
        connection.settimeout(1.5)
        with pytest.raises(TimeoutError):  # three times as long as a caller may be silent: it is still waited for
            connection.recv(1)


def is_cut_off(connection: socket.socket) -> bool:
    """Sends drops for a while, and tells whether the server took them to the end."""
    for _ in range(600):
        try:
            connection.sendall(b"x")
        except (BrokenPipeError, ConnectionResetError):
            return True
        time.sleep(0.02)
    return False


def test_a_head_that_comes_drop_by_drop_is_let_go(
    start: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.5)
    server = start(data_dir=tmp_path, auth="off")
    with connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nA: ")
        assert is_cut_off(connection)


def test_a_body_that_was_refused_is_not_waited_for(
    start: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.5)
    server = start(data_dir=tmp_path)
    with connect(server) as connection:
        connection.sendall(b"POST /queue/fal-ai/flux-lora HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n")
        assert b"401" in connection.recv(4096)
        assert is_cut_off(connection)


def test_of_connections_without_a_head_the_oldest_goes(
    start: Callable[..., WebServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MOST_UNFINISHED", 20)
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 600.0)  # nothing goes for having taken long
    server = start(data_dir=tmp_path, auth="off")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(60)]
        for connection in silent[-20:]:
            connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert httpx.get(server.origin + "/health", trust_env=False).status_code == 200
        silent[0].settimeout(20)
        assert silent[0].recv(1) == b""
        silent[-1].sendall(b"Host: localhost\r\n\r\n")
        silent[-1].settimeout(30)
        assert silent[-1].recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(("trusted", "scheme"), [([], "http"), (["127.0.0.1"], "https"), (["10.0.0.1"], "http")])
def test_what_a_proxy_says_of_the_caller_is_believed_of_trusted_ones_only(
    tmp_path: Path, trusted: list[str], scheme: str
) -> None:
    process = Process(tmp_path, TINTYPE_TRUSTED_PROXIES=json.dumps(trusted))
    try:
        sent = httpx.post(
            f"{process.origin}/queue/fal-ai/flux-lora", json={"prompt": "x"}, headers={"X-Forwarded-Proto": "https"},
            trust_env=False, timeout=60,
        )  # fmt: skip
        assert sent.json()["status_url"].split(":")[0] == scheme
    finally:
        process.end()
