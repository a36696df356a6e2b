from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest


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


def test_it_answers_from_the_inherited_socket_and_stays_small_without_torch(process):
    assert process.get("/health").json() == {"status": "ok"}
    memory = psutil.Process(process.process.pid)
    assert memory.memory_info().rss < 150 * 1024 * 1024
    assert not [entry.path for entry in memory.memory_maps() if "torch" in entry.path]


def test_it_ends_when_its_parent_is_gone(process):
    process.get("/health")
    os.close(process.lifeline)
    process.lifeline = -1
    assert process.process.wait(30) == 0


@pytest.mark.parametrize("ordered", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_told_to_even_with_a_stream_open(process, ordered):
    body = {"prompt": "nobody will draw this"}
    url = httpx.post(f"{process.origin}/queue/fal-ai/flux-lora", json=body, trust_env=False, timeout=60).json()
    with httpx.stream("GET", url["status_url"] + "/stream", trust_env=False, timeout=60) as events:
        next(events.iter_lines())
        process.process.send_signal(ordered)
        assert process.process.wait(30) == 0


def test_what_it_answered_with_an_id_is_there_after_a_kill(process, tmp_path):
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


def test_a_misspelt_setting_is_told_at_once(tmp_path):
    running = Process(tmp_path, TINTYPE_PROT="1")
    try:
        assert running.process.wait(60) == 1
    finally:
        running.end()


def test_it_listens_by_itself_when_no_socket_is_given(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tintype.web", "--port", str(port)],
        env={**os.environ, "TINTYPE_DATA_DIR": str(tmp_path)},
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
