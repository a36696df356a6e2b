"""What somebody at a terminal does with the server that runs: trains a custom model, watches, walks away."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.server import Server

TINTYPE = [sys.executable, "-m", "tintype"]


def test_who_trains_a_model_and_walks_away_leaves_it_running(server: Server, photos: Path) -> None:
    command = [*TINTYPE, "train", str(photos), "--model", "Left alone", "--steps", "40000"]
    watching = subprocess.Popen(
        [*command, "--data-dir", str(server.data_dir)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert watching.stdout is not None
    request_id = watching.stdout.readline().split()[1]
    with server.http() as http:
        status = f"/queue/fal-ai/ideogram/requests/{request_id}/status"
        try:
            time.sleep(1)  # it watches by now, or will be told that it need not begin
            watching.send_signal(signal.SIGINT)
            said = watching.communicate(timeout=60)[0]
            assert watching.returncode == 130
            assert f"tintype watch {request_id}" in said
            assert http.get(status).json()["status"] in ("IN_QUEUE", "IN_PROGRESS")
            models = http.get("/v1/custom-models").json()["models"]
            assert [model["name"] for model in models if model["request_id"] == request_id] == ["Left alone"]
        finally:
            http.put(status.replace("/status", "/cancel"))


def test_what_the_server_refuses_is_said_in_its_words(server: Server, photos: Path) -> None:
    command = [*TINTYPE, "train", str(photos), "--model", "No", "--data-dir", str(server.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "5 to 30 characters" in " ".join(done.stderr.split())
