"""Recipe A: `FAL_RUN_HOST` and `FAL_QUEUE_RUN_HOST` name this server's port behind TLS, nothing else is changed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from tests.support.server import Server

PROGRAM = """
import asyncio, fal_client
drawing = {"prompt": "a portrait of a person", "image_size": "square", "num_inference_steps": 1, "seed": 1}
handle = fal_client.submit("fal-ai/flux-lora", drawing)
print(handle.get()["seed"], isinstance(fal_client.status("fal-ai/flux-lora", handle.request_id), fal_client.Completed))
print(fal_client.run("fal-ai/flux-lora", drawing)["seed"])
print([event["seed"] for event in fal_client.stream("fal-ai/flux-lora", drawing) if "seed" in event])
print(asyncio.run(fal_client.subscribe_async("fal-ai/flux-lora", drawing))["seed"])
"""


def pasted(server: Server) -> dict[str, str]:
    """An environment with the line that `serve` prints."""
    line = next(line for line in (server.data_dir / "serve.log").read_text().splitlines() if "FAL_RUN_HOST" in line)
    _, _, assignments = line.partition("export ")
    return os.environ | dict(part.split("=", 1) for part in shlex.split(assignments))


def test_the_python_client_is_turned_by_its_own_variables(server: Server) -> None:
    environment = pasted(server) | {"FAL_KEY": server.key}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "1 True\n1\n[1]\n1\n", done.stderr


def test_a_wrong_key_is_refused_there_too(server: Server) -> None:
    environment = pasted(server) | {"FAL_KEY": "wrong:key"}
    program = "import fal_client; fal_client.submit('fal-ai/flux-lora', {'prompt': 'x'})"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "This key is not known here" in done.stderr
