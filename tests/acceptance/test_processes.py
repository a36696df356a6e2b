"""What the processes weigh and reach: a light web, no torch in the control half, nothing beyond loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes import command
from tests.support.server import Server, finish

MIB = 1024 * 1024


def tree(server: Server) -> list[psutil.Process]:
    root = psutil.Process(server.pid)
    return [root, *root.children(recursive=True)]


def named(server: Server, module: str) -> list[psutil.Process]:
    return [process for process in tree(server) if module in " ".join(command(process))]


def test_the_web_process_is_light(server: Server, lora: dict[str, Any]) -> None:
    (web,) = named(server, "tintype.web")
    assert web.memory_info().rss < 150 * MIB


def test_torch_is_mapped_in_no_process_of_the_control_half(server: Server, lora: dict[str, Any]) -> None:
    control = [p for p in tree(server) if "tintype.worker.child" not in " ".join(command(p))]
    assert len(control) >= 3, [command(p) for p in tree(server)]
    for process in control:
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libtorch" not in mapped, command(process)


@pytest.mark.long
def test_training_and_drawing_on_both_bases_stay_under_three_gigabytes(
    server: Server, lora: dict[str, Any], photos: Path
) -> None:
    with server.http() as http:  # FLUX was trained for the LoRA
        body = {"images_data_url": server.upload(photos.read_bytes()), "steps": 100}
        training = http.post("/queue/ideogram/v4/trainer", json=body).raise_for_status().json()
        body = {"prompt": "a portrait", "rendering_speed": "TURBO", "image_size": {"width": 2048, "height": 2048}}
        assert http.post("/run/ideogram/v4", json=body).status_code == 200
        assert http.post("/run/fal-ai/flux-lora", json={"prompt": "a portrait"}).status_code == 200
        assert "error" not in finish(http, training["status_url"])
    together = sum(process.memory_full_info().pss for process in tree(server))
    assert together < 3 * 1024 * MIB, f"{together / MIB:.0f} MiB"


def test_no_process_is_connected_beyond_loopback(server: Server, lora: dict[str, Any]) -> None:
    for process in tree(server):
        for connection in process.net_connections(kind="inet"):
            if connection.raddr:
                assert connection.raddr.ip in ("127.0.0.1", "::1"), (command(process), connection)
