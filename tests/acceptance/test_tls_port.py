"""Recipe A: `FAL_RUN_HOST` and `FAL_QUEUE_RUN_HOST` name this server's port behind TLS, nothing else is changed."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.acceptance.conftest import Server
from tintype.detour.authority import Authority
from tintype.detour.signpost import Signpost

PROGRAM = """
import asyncio, fal_client
drawing = {"prompt": "a portrait of a person", "image_size": "square", "num_inference_steps": 1, "seed": 1}
handle = fal_client.submit("fal-ai/flux-lora", drawing)
print(handle.get()["seed"], isinstance(fal_client.status("fal-ai/flux-lora", handle.request_id), fal_client.Completed))
print(fal_client.run("fal-ai/flux-lora", drawing)["seed"])
print([event["seed"] for event in fal_client.stream("fal-ai/flux-lora", drawing) if "seed" in event])
print(asyncio.run(fal_client.subscribe_async("fal-ai/flux-lora", drawing))["seed"])
"""


def test_the_python_client_is_turned_by_its_own_variables(server: Server) -> None:
    here = Signpost.read(server.data_dir)
    assert here is not None
    environment = os.environ | {
        "FAL_KEY": server.key,
        "FAL_RUN_HOST": f"localhost:{here.tls_port}/run",
        "FAL_QUEUE_RUN_HOST": f"127.0.0.1:{here.tls_port}/queue",
        "SSL_CERT_FILE": str(Authority.of(server.data_dir).bundle({})),
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "1 True\n1\n[1]\n1\n", done.stderr


def test_a_wrong_key_is_refused_there_too(server: Server) -> None:
    here = Signpost.read(server.data_dir)
    assert here is not None
    environment = os.environ | {
        "FAL_KEY": "wrong:key",
        "FAL_QUEUE_RUN_HOST": f"127.0.0.1:{here.tls_port}/queue",
        "SSL_CERT_FILE": str(Authority.of(server.data_dir).bundle({})),
    }
    program = "import fal_client; fal_client.submit('fal-ai/flux-lora', {'prompt': 'x'})"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "This key is not known here" in done.stderr
