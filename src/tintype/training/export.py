"""Writes an adapter as the file the world can load: diffusers' keys, alpha where diffusers looks for it.

Alpha equals the rank here, so a reader that ignores it still applies the LoRA at its right strength.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from tintype.families.lora_file import METADATA_KEY, PREFIX
from tintype.training.adapters import Adapter

LAYOUT = "lora"


def to_diffusers(
    adapter: Adapter, path: Path, *, weights: torch.Tensor | None, dtype: torch.dtype, header: Mapping[str, str]
) -> Path:
    """A safetensors file for `FluxPipeline.load_lora_weights`. `weights`: flat, instead of the adapter's own."""
    tensors = {}
    for name, (down, up) in adapter.state(weights).items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = down.to(dtype).contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = up.to(dtype).contiguous()
    config = {
        f"{PREFIX}r": adapter.rank,
        f"{PREFIX}lora_alpha": adapter.alpha,
        f"{PREFIX}target_modules": sorted(adapter.layers),
    }
    metadata = {**header, METADATA_KEY: json.dumps(config, sort_keys=True), "format": "pt"}
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh, metadata=metadata)
    fresh.replace(path)
    return path


def header(*, title: str, trigger: str, base: str, steps: int, licence: str, architecture: str) -> dict[str, str]:
    """What the file says about itself (modelspec 1.0.1, which galleries and user interfaces read)."""
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": title,
        "modelspec.architecture": f"{architecture}/{LAYOUT}",
        "modelspec.implementation": "diffusers",
        "modelspec.trigger_phrase": trigger,
        "modelspec.license": licence,
        "tintype.base": base,
        "tintype.steps": str(steps),
    }
