"""The LoRA is an ordinary one: a process that never heard of tintype loads it and draws the same picture."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.support.server import Server

PLAIN = """
import json, sys, warnings
import torch
from diffusers import FluxPipeline
from diffusers.utils import logging
base, lora, out, call, seed = sys.argv[1:6]
pipeline = FluxPipeline.from_pretrained(base, dtype=torch.float32)
state = FluxPipeline.lora_state_dict(lora, return_lora_metadata=True)[0]
pipeline.load_lora_weights(lora)
loaded = {name for name, _ in pipeline.transformer.named_parameters() if "lora_" in name}
assert len(loaded) == len(state), (len(loaded), len(state))
torch.manual_seed(0)
call = json.loads(call)
picture = pipeline(generator=torch.Generator("cpu").manual_seed(int(seed)), **call).images[0]
picture.save(out)
assert not any(name.split(".")[0] == "tintype" for name in sys.modules)
"""


def test_a_plain_flux_pipeline_draws_the_same_picture(server: Server, lora: dict[str, Any], tmp_path: Path) -> None:
    with server.http() as http:
        (tmp_path / "lora.safetensors").write_bytes(http.get(lora["diffusers_lora_file"]["url"]).content)
        config = http.get(lora["config_file"]["url"]).json()
        body = {
            "prompt": "a portrait of ohwx, blue shirt",
            "seed": 9,
            "image_size": "square_hd",
            "output_format": "png",
        }
        answer = http.post(
            "/run/fal-ai/flux-lora", json=body | {"loras": [{"path": lora["diffusers_lora_file"]["url"]}]}
        )
        ours = _pixels(http.get(answer.json()["images"][0]["url"]).content)
    how = config["how_to_draw"]
    call = how["call"] | {"prompt": body["prompt"]}
    plain = tmp_path / "plain.py"
    plain.write_text(PLAIN)
    command = [sys.executable, "-I", str(plain), how["from_pretrained"], str(tmp_path / "lora.safetensors")]
    done = subprocess.run(
        [*command, str(tmp_path / "out.png"), json.dumps(call), "9"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "unexpected keys" not in done.stderr.lower()
    assert "missing keys" not in done.stderr.lower()
    theirs = _pixels((tmp_path / "out.png").read_bytes())
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() <= 1


def test_files_come_with_ranges_and_cannot_be_sniffed(server: Server, lora: dict[str, Any]) -> None:
    url = lora["diffusers_lora_file"]["url"]
    whole = httpx.get(url, trust_env=False)
    assert whole.status_code == 200
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"].startswith("attachment")
    part = httpx.get(url, headers={"Range": "bytes=8-15"}, trust_env=False)
    assert part.status_code == 206
    assert part.content == whole.content[8:16]
    assert httpx.head(url, trust_env=False).headers["content-length"] == str(len(whole.content))


def _pixels(content: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
