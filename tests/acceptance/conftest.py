"""One real server for all acceptance tests: processes, sockets, SQLite, the miniature; nothing is replaced."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.acceptance.wiretap import Wiretap, tapping

if TYPE_CHECKING:
    from fal_client import SyncClient

START_SECONDS = 120  # generous: the machine may be busy


@dataclass(frozen=True)
class Server:
    """A running installation."""

    origin: str
    key: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    seconds_to_health: float

    def http(self) -> httpx.Client:
        """A client that carries the key."""
        headers = {"Authorization": f"Key {self.key}"}
        return httpx.Client(base_url=self.origin, headers=headers, timeout=120, trust_env=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("installation"), TLS_PORT="0") as started:
        yield started


@contextmanager
def running(data_dir: Path, *, port: int = 0, **settings: str) -> Iterator[Server]:
    """A server of its own in `data_dir`; `settings` are TINTYPE_ variables without the prefix. It may be killed."""
    port = port or free_port()
    origin = f"http://127.0.0.1:{port}"
    chosen = {"ALLOW_PRIVATE_INPUTS": "false", "FLUX_BASE": "miniature", "IDEOGRAM4_BASE": "miniature"} | settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TINTYPE_")}
    environment |= {f"TINTYPE_{name}": value for name, value in chosen.items()}
    command = [sys.executable, "-m", "tintype", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    log = (data_dir / "serve.log").open("w")
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        health = _wait(f"{origin}/health", process, data_dir)
        _wait(f"{origin}/ready", process, data_dir)
        yield Server(origin, (data_dir / "key").read_text().strip(), data_dir, process, health - began)
    finally:
        process.send_signal(signal.SIGINT)  # does nothing to a process that is known to be gone
        code = process.wait(60)
        log.close()
    assert code in (0, -signal.SIGKILL), (data_dir / "serve.log").read_text()[-3000:]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], data_dir: Path) -> float:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, (data_dir / "serve.log").read_text()[-3000:]
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return time.monotonic()
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{url} did not answer: " + (data_dir / "serve.log").read_text()[-3000:])


@pytest.fixture
def swept() -> Iterator[None]:
    """fal's client opens connections that it leaves to the garbage collector; better here than in the middle of some
    other test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def fal(server: Server, swept: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """fal's Python client, unmodified, pointed here by recipe B."""
    import fal_client

    monkeypatch.setenv("FAL_KEY", server.key)
    turn(server.origin, monkeypatch)
    return fal_client


def turn(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipe B: where fal's Python client goes."""
    import fal_client.client as names

    monkeypatch.setattr(names, "RUN_URL_FORMAT", f"{origin}/run/")
    monkeypatch.setattr(names, "QUEUE_URL_FORMAT", f"{origin}/queue/")
    monkeypatch.setattr(names, "REST_URL", f"{origin}/rest")
    monkeypatch.setattr(names, "CDN_URL", f"{origin}/cdn")


@pytest.fixture
def tap(server: Server) -> Iterator[Wiretap]:
    """Hears all that is asked of the server by way of its origin."""
    with tapping(server.origin) as heard:
        yield heard


@pytest.fixture
def turned(tap: Wiretap, monkeypatch: pytest.MonkeyPatch) -> Wiretap:
    """Whatever fal's Python client asks goes by way of the wiretap."""
    turn(tap.origin, monkeypatch)
    return tap


@pytest.fixture
def client(turned: Wiretap, server: Server) -> Iterator[SyncClient]:
    """fal's Python client, by way of the wiretap."""
    from fal_client import SyncClient

    speaking = SyncClient(key=server.key)
    yield speaking
    speaking._client.close()


@pytest.fixture(scope="session")
def lora(server: Server, photos: Path) -> dict[str, Any]:
    """The answer to a short training, made once over plain HTTP: what several tests look at."""
    with server.http() as http:
        upload = http.post("/cdn/files/upload", content=photos.read_bytes(), headers={
            "Content-Type": "application/zip", "X-Fal-File-Name": "photos.zip"})  # fmt: skip
        body = {"images_data_url": upload.json()["access_url"], "trigger_phrase": "ohwx", "steps": 30}
        submitted = http.post("/queue/fal-ai/flux-lora-portrait-trainer", json=body)
        assert submitted.status_code == 200, submitted.text
        finish(http, submitted.json()["status_url"])
        answer = http.get(submitted.json()["response_url"])
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result | {"request_id": submitted.json()["request_id"]}


def finish(http: httpx.Client, status_url: str, *, seconds: float = 300) -> dict[str, Any]:
    """Polls until COMPLETED; returns the last status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = http.get(status_url, params={"logs": "1"})
        status: dict[str, Any] = answer.json()
        assert answer.status_code == (200 if status["status"] == "COMPLETED" else 202)
        if status["status"] == "COMPLETED":
            return status
        time.sleep(0.1)
    raise AssertionError(f"not completed after {seconds} s: {status}")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos of a subject, without captions."""
    path = tmp_path_factory.mktemp("photos") / "photos.zip"
    command = [sys.executable, "-m", "miniature.world", "--subject", "11", "--count", "10"]
    subprocess.run([*command, "--out", str(path)], check=True)
    return path
