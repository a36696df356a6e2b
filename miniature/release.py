"""Writes a trained pipeline as the folder that ships: half precision, and what tintype must know of it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from miniature.latents import NOMINAL_SCALE, TOKEN_PIXELS


def release(pipeline: DiffusionPipeline, folder: Path, traits: dict[str, Any]) -> None:
    """Saves the whole pipeline in half precision, beside the folder first and then in its place."""
    fresh, stale = (folder.with_name(f".{folder.name}.{state}") for state in ("fresh", "stale"))
    shutil.rmtree(fresh, ignore_errors=True)
    type(pipeline)(**{name: _halved(part) for name, part in pipeline.components.items()}).save_pretrained(fresh)
    for path in fresh.glob("text_encoder*/config.json"):
        # transformers loads in the precision its config names; the rest of the pipeline loads in float32.
        config = json.loads(path.read_text())
        for part in (config, *config.values()):
            if isinstance(part, dict) and "dtype" in part:
                part["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n")
    known = {"nominal_scale": NOMINAL_SCALE, "token_pixels": TOKEN_PIXELS}
    (fresh / "miniature.json").write_text(json.dumps({**known, **traits}, indent=2) + "\n")
    shutil.rmtree(stale, ignore_errors=True)
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)
    print(f"released  {folder}", flush=True)


def _halved(part: Any) -> Any:
    """Copies a part in half precision, but for the statistics of batch norms; what holds no weights stays itself."""
    if not isinstance(part, torch.nn.Module):
        return part
    half = copy.deepcopy(part).half()
    for name, module in part.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            half.set_submodule(name, copy.deepcopy(module))
    return half
