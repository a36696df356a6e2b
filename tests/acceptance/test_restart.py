"""The power goes out in the middle of a training: after the next start the same program ends as if nothing had been."""

from __future__ import annotations

import time
from pathlib import Path

import fal_client
import psutil
import pytest

from tests.support.python_client import turn
from tests.support.server import free_port, running

pytestmark = [
    pytest.mark.long,
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TRAINER = "fal-ai/flux-lora-portrait-trainer"
STEPS = 30


def test_a_handle_outlives_the_server_that_gave_it(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    turn(f"http://127.0.0.1:{port}", monkeypatch)

    with running(tmp_path, port=port) as server:
        client = fal_client.SyncClient(key=server.key)
        arguments = {"images_data_url": client.upload_file(photos), "steps": STEPS, "rank": 4}
        handle = client.submit(TRAINER, arguments)
        waiting = client.submit(TRAINER, arguments | {"steps": 1})
        with server.http() as http:
            while http.get(handle.status_url).json()["step"] < 5:
                time.sleep(0.1)
        before = handle.status(with_logs=True)
        assert isinstance(before, fal_client.InProgress)
        kill(server.pid)

    with running(tmp_path, port=port) as server:
        assert isinstance(waiting.status(), fal_client.Queued | fal_client.InProgress | fal_client.Completed)
        result = handle.get()
        after = handle.status(with_logs=True)
        with server.http() as http:
            attempts = http.get(handle.status_url).json()["attempts"]
        assert set(waiting.get()) == {"diffusers_lora_file", "config_file"}
    assert set(result) == {"diffusers_lora_file", "config_file"}
    assert isinstance(after, fal_client.Completed)
    assert after.logs is not None
    assert after.logs[: len(before.logs)] == before.logs
    assert len(attempts) == 2


def kill(pid: int) -> None:
    """SIGKILL to a process and everything below it, at once."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.kill()
