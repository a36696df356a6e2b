"""Draws with the resident FLUX pipeline: diffusers' own call, one picture at a time.

One at a time because picture k of a batch has to be the picture of seed + k alone, to the last bit: a larger batch
makes the same matrix product round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from tintype.inference.lora_cache import LoraCache, LoraRequest
from tintype.models.flux.model import FluxFamily

DEFAULT_STEPS = 28
DEFAULT_GUIDANCE = 3.5


@dataclass(frozen=True)
class Wish:
    """What to draw. `width` and `height` are nominal pixels."""

    prompt: str
    width: int
    height: int
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE


class FluxSampler:
    """The resident pipeline with its shelf of LoRAs."""

    def __init__(self, family: FluxFamily, keep: int) -> None:
        self.family = family
        self.shelf = LoraCache(family, keep)

    def use(self, loras: Sequence[LoraRequest]) -> list[str]:
        """Draw with exactly these LoRAs from now on; returns remarks for the person who sent them.

        Raises UnusableAdapter at the one that does not fit.
        """
        return self.shelf.apply(loras)

    @torch.no_grad()
    def draw(
        self, wish: Wish, seeds: Sequence[int], each_step: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Image.Image]:
        """One picture for each seed, at `family.true_size`. `each_step` gets (steps done, steps in all), may raise."""
        pipeline = self.family.pipeline()
        features = self.family.encode_captions([wish.prompt])
        width, height = self.family.true_size(wish.width, wish.height)
        pictures = []
        for number, seed in enumerate(seeds):

            def tell(pipe: Any, step: int, time: Any, kept: dict[str, Any], before: int = number) -> dict[str, Any]:
                each_step(before * wish.steps + step + 1, len(seeds) * wish.steps)
                return kept

            drawn = pipeline(
                prompt_embeds=features.tokens,
                pooled_prompt_embeds=features.pooled,
                width=width,
                height=height,
                num_inference_steps=wish.steps,
                guidance_scale=wish.guidance,
                max_sequence_length=self.family.max_sequence_length,
                # Noise from the CPU: the same seed gives the same noise on every machine.
                generator=torch.Generator("cpu").manual_seed(seed),
                callback_on_step_end=tell,
            )
            pictures.append(drawn.images[0])
        return pictures
