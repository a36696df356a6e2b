"""Whoever has no key costs the server nothing, on whatever route, with bodies of whatever shape, size and pace."""

from __future__ import annotations

import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.server import free_port, without

from tintype.web.routes import CDN, OURS, PAGES, QUEUE, REST, RUN, STUDIO, Resource

MIB = 1024 * 1024
SHAPES = (
    b"0,", b"[],", b"{},", b'"",', b'{"a":0},', b"[[[[", b'{"a":', b'"\\u00e9",', b'"\\ud800",', b"\0",
    b"data:;base64,AAAA", b'"data:,AAAAAAAA', '"\N{ROCKET}",'.encode(), b'{"partNumber":1,"etag":"x"},', b"1e9,",
    b"99999999999999999999,",
)  # fmt: skip
VALUES = {
    "app": "fal-ai/flux-lora", "endpoint": "fal-ai/flux-lora", "id": "0" * 36, "upload_id": "x" * 32, "number": "1",
    "file_id": "x" * 32, "name": "a.zip", "rest": "x", "hash": "x", "photo_id": "0" * 36,
}  # fmt: skip


def paths() -> list[tuple[str, str]]:
    """Every method of every route, with something in the place of each parameter."""
    found = []
    for prefix, routes in {
        "/queue": QUEUE,
        "/run": RUN,
        "/rest": REST,
        "/cdn": CDN,
        "": (*OURS, *PAGES, *STUDIO),
    }.items():
        for route in routes:
            assert isinstance(route, Resource)
            path = route.path
            for name in route.param_convertors:
                start = path.index("{" + name)
                path = path[:start] + VALUES[name] + path[path.index("}", start) + 1 :]
            found += [(method, prefix + path) for method in route.handlers]
    return found


class Server:
    """A web process by itself, and how soon it says that it is well."""

    def __init__(self, data_dir: Path) -> None:
        self.port, self.data_dir = free_port(), data_dir
        command = [sys.executable, "-m", "tintype.web", "--port", str(self.port), "--host", "127.0.0.1"]
        environment = without("TINTYPE_") | {"TINTYPE_DATA_DIR": str(data_dir)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, umask=0o022)
        self.latencies: list[float] = []
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._ask)

    def __enter__(self) -> Server:
        ends = time.monotonic() + 60
        while True:
            try:
                httpx.get(self.url("/health"), trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < ends
                time.sleep(0.05)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()
        self.process.terminate()
        assert self.process.wait(30) == 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self._ended.wait(0.01):
                began = time.perf_counter()
                assert client.get(self.url("/health")).status_code == 200
                self.latencies.append(time.perf_counter() - began)

    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def stored(self) -> int:
        """Bytes of what was kept, beside the database."""
        files = [path for path in self.data_dir.rglob("*") if path.is_file() and "tintype.db" not in path.name]
        return sum(path.stat().st_size for path in files)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data") as running:
        yield running


def send(server: Server, dice: random.Random, method: str, path: str, size: int) -> int | None:
    """Sends one request without a key in pieces of any size; its status, or None where the server hung up."""
    piece = dice.choice(SHAPES)
    piece *= max(1, 64 * 1024 // len(piece))
    chunked = dice.random() < 0.3
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    slow = size < 100 and dice.random() < 0.5
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(head.encode())
            sent = 0
            while sent < size:
                part = piece[: 1 if slow else min(len(piece), size - sent)]
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                sent += len(part)
                if slow:
                    time.sleep(0.001)
            if chunked:
                connection.sendall(b"0\r\n\r\n")
            answer = connection.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            return None
    return int(answer.split(b" ")[1]) if answer else None


def torment(server: Server, cases: int) -> None:
    dice, routes = random.Random(cases), paths()
    before = server.stored()
    for number in range(cases):
        method, path = routes[number % len(routes)]
        size = 64 * MIB if number % 25 == 7 else dice.choice([0, 1, 17, 99, 5_000, 300_000, MIB, 3 * MIB])
        status = send(server, dice, method, path, size)
        assert status != 500, (method, path)
    assert server.memory() < 200 * MIB
    assert server.stored() - before < 1000  # a note that a proxy was seen, at most


def test_a_body_without_a_key_is_not_read_on_any_route(server: Server) -> None:
    torment(server, 60)
    assert statistics.median(server.latencies) < 0.1


@pytest.mark.long
def test_two_thousand_bodies_without_a_key(server: Server) -> None:
    torment(server, 2000)
    print(f"/health meanwhile: {statistics.median(server.latencies):.4f} s, at worst {max(server.latencies):.3f} s")
    assert statistics.median(server.latencies) < 0.1
    assert max(server.latencies) < 5  # 0.5 on a quiet machine; this one has the other tests to run


def test_a_completion_of_an_unknown_upload_is_refused_before_its_list_is_read(server: Server) -> None:
    body = b"[" + b"0," * (8 * MIB) + b"0]"
    memory = server.memory()
    for path in ("/rest/storage/upload/parts/nope/complete", "/storage/upload/parts/nope/complete"):
        answer = httpx.post(server.url(path), content=body, trust_env=False, timeout=60)
        assert answer.status_code == 404
    assert server.memory() - memory < 20 * MIB
    assert server.stored() == 0


def test_a_large_body_without_a_key_is_refused_while_it_is_sent(server: Server) -> None:
    for method, path in (("POST", "/queue/fal-ai/flux-lora"), ("POST", "/cdn/files/upload"), ("POST", "/rest/tokens/")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {64 * MIB}\r\n\r\n["
            connection.sendall(head.encode())
            assert connection.recv(4096).split()[1] == b"401", path
