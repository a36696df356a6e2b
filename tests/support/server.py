"""A whole `tintype serve`: processes, sockets, SQLite, the miniatures; nothing is replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.private import open_to_others

START_SECONDS = 120  # generous: the machine may be busy
PORTRAIT_TRAINER = "fal-ai/flux-lora-portrait-trainer"


@dataclass(frozen=True)
class Server:
    """A running installation."""

    origin: str
    key: str
    data_dir: Path
    pid: int

    def http(self) -> httpx.Client:
        """Returns a client that carries the key."""
        headers = {"Authorization": f"Key {self.key}"}
        return httpx.Client(base_url=self.origin, headers=headers, timeout=120, trust_env=False, verify=False)

    def upload(self, content: bytes, name: str = "photos.zip", content_type: str = "application/zip") -> str:
        """Returns the URL of an uploaded file."""
        with self.http() as http:
            return upload(http, content, name, content_type)

    def submit(self, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a submission."""
        with self.http() as http:
            answer = http.post(f"/queue/{endpoint}", json=dict(body))
        assert answer.status_code == 200, answer.text
        submitted: dict[str, Any] = answer.json()
        return submitted

    def result(self, submitted: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a submitted request came to, once it has succeeded; with the request's id."""
        with self.http() as http:
            finish(http, submitted["status_url"])
            answer = http.get(submitted["response_url"])
        assert answer.status_code == 200, answer.text
        return {**answer.json(), "request_id": submitted["request_id"]}


@contextmanager
def running(
    data_dir: Path, *, port: int = 0, executable: str | Path = sys.executable, **settings: str
) -> Iterator[Server]:
    """A server of its own in `data_dir`; `settings` are TINTYPE_ variables without the prefix. It may be killed."""
    chosen = {"ALLOW_PRIVATE_INPUTS": "false", "FLUX_BASE": "miniature", "IDEOGRAM4_BASE": "miniature"} | settings
    environment = without("TINTYPE_") | {f"TINTYPE_{name}": value for name, value in chosen.items()}
    command = [executable, "-m", "tintype", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    (data_dir / "serving.json").unlink(missing_ok=True)  # of a server that was killed
    log = data_dir / "serve.log"
    log.touch(0o600)
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, umask=0o022)
    try:
        origin = _origin(process, data_dir, log)
        for path in ("/health", "/ready"):
            _wait(origin + path, process, log)
        yield Server(origin, (data_dir / "key").read_text().strip(), data_dir, process.pid)
    finally:
        process.send_signal(signal.SIGINT)  # does nothing to a process that is known to be gone
        code = process.wait(60)
    assert code in (0, -signal.SIGKILL), log.read_text()[-3000:]
    assert open_to_others(data_dir) == [], "other users of the machine could read what was written"


def without(*prefixes: str) -> dict[str, str]:
    """Returns this process's environment without the variables that begin so."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def free_port() -> int:
    """Returns a port of loopback that nobody listens on; only for what must know its port before it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def upload(
    http: httpx.Client, content: bytes, name: str = "photos.zip", content_type: str = "application/octet-stream"
) -> str:
    """Returns the URL of an uploaded file."""
    headers = {"Content-Type": content_type, "X-Fal-File-Name": name}
    return str(http.post("/cdn/files/upload", content=content, headers=headers).raise_for_status().json()["access_url"])


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


def _origin(process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> str:
    """Waits until the server has said where it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        if (data_dir / "serving.json").exists():
            return f"http://{json.loads((data_dir / 'serving.json').read_text())['server']}"
        time.sleep(0.02)
    raise AssertionError("the server did not say where it listens: " + log.read_text()[-3000:])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, verify=False) as http:  # reading certificates takes longer than asking
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                if http.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    raise AssertionError(f"{url} did not answer: " + log.read_text()[-3000:])
