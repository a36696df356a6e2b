"""Runs a built miniature through the plain diffusers pipeline, as any stranger would use it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, FluxPipeline, Ideogram4Pipeline
from PIL import Image

from miniature.flux.vocabulary import WINDOW
from miniature.latents import NOMINAL_SCALE
from tintype.catalog.ideogram_v4 import RenderingSpeed
from tintype.inference.presets import SPEEDS
from tintype.models.ideogram4.network import prompt_tokens

_BATCH = 25
_SQUARE = (64, 64)


def load(folder: Path) -> DiffusionPipeline:
    """Loads the pipeline that a folder names, without progress bars."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def traits(folder: Path) -> dict[str, float]:
    """Reads how the folder's miniature differs from the real model."""
    known: dict[str, float] = json.loads((folder / "miniature.json").read_text())
    return known


def generate_flux(
    pipe: FluxPipeline, prompts: Sequence[str], size: tuple[int, int] = _SQUARE, *, steps: int = 28, seed: int = 0
) -> list[Image.Image]:
    """Generates one picture for each prompt; picture n starts from seed + n."""
    told = {"num_inference_steps": steps, "guidance_scale": 3.5, "max_sequence_length": WINDOW}
    return _generate(pipe, prompts, size, seed, told)


def generate_ideogram4(
    pipe: Ideogram4Pipeline,
    prompts: Sequence[str],
    size: tuple[int, int] = _SQUARE,
    *,
    strength: float,
    speed: RenderingSpeed = "BALANCED",
    seed: int = 0,
) -> list[Image.Image]:
    """Generates one picture for each prompt; picture n starts from seed + n. The window is the longest prompt's."""
    preset = SPEEDS[speed]
    told = {
        "num_inference_steps": preset.steps,
        "guidance_schedule": preset.guidance_schedule(strength),
        "mu": preset.mu + math.log(NOMINAL_SCALE),
        "std": preset.std,
        "max_sequence_length": max(len(prompt_tokens(pipe.tokenizer, prompt)) for prompt in prompts),
    }
    return _generate(pipe, prompts, size, seed, told)


def _generate(
    pipe: DiffusionPipeline, prompts: Sequence[str], size: tuple[int, int], seed: int, told: dict[str, Any]
) -> list[Image.Image]:
    images: list[Image.Image] = []
    for start in range(0, len(prompts), _BATCH):
        batch = list(prompts[start : start + _BATCH])
        generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(batch))]
        images += pipe(batch, width=size[0], height=size[1], generator=generators, **told).images
    return images
