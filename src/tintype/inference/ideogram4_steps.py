"""Draws with Ideogram 4 step by step, as its pipeline does, but without padding text to 2,048 tokens at every step.

The arithmetic is the pipeline's: the same noise for a seed, the same schedule, the same guidance, v = g · v_c + (1 - g)
· v_n, and Euler steps. What the negative branch v_n is can be chosen, because peers disagree on it once a LoRA is
loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from tintype.catalog.ideogram_v4 import NegativeBranch
from tintype.inference.presets import Preset
from tintype.models.family import Features, Latents
from tintype.models.ideogram4.model import SIGMA_MAX, SIGMA_MIN, Ideogram4Family

_REFERENCE_PIXELS = 512**2


@dataclass(frozen=True)
class Order:
    """What to draw. width and height are nominal pixels; picture n starts from the n-th seed.

    `negative`: features of what the picture should not show; they take the place of the negative branch.
    """

    width: int
    height: int
    preset: Preset
    seeds: Sequence[int]
    branch: NegativeBranch = "unconditional"
    negative: Features | None = None


def schedule(preset: Preset, pixels: int) -> torch.Tensor:
    """(steps + 1,) sigmas from noise to 0: quantiles of the logit-normal distribution at so many nominal pixels."""
    mean = preset.mu + 0.5 * math.log(pixels / _REFERENCE_PIXELS)
    quantiles = torch.special.ndtri(torch.linspace(1, 0, preset.steps + 1, dtype=torch.float64))
    sigmas: torch.Tensor = torch.special.expit(mean + preset.std * quantiles).clamp(SIGMA_MIN, SIGMA_MAX).float()
    sigmas[-1] = 0
    return sigmas


@torch.no_grad()
def draw(
    family: Ideogram4Family,
    transformer: Any,
    features: Features,
    order: Order,
    each: Callable[[int, int], None] = lambda done, total: None,
) -> list[Image.Image]:
    """One picture for each seed from one caption's features. `each` is called after every step with (done, total)."""
    return family.decode_latents(denoise(family, transformer, features, order, each))


@torch.no_grad()
def denoise(
    family: Ideogram4Family,
    transformer: Any,
    features: Features,
    order: Order,
    each: Callable[[int, int], None] = lambda done, total: None,
) -> Latents:
    """What `draw` decodes."""
    width, height = family.true_size(order.width, order.height)
    rows, columns = height // family.token_pixels, width // family.token_pixels
    shape = (1, rows * columns, transformer.config.in_channels)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in order.seeds]
    latents = Latents(torch.cat(noise).to(family.device), rows, columns)
    sigmas = schedule(order.preset, rows * columns * family.size_step**2).to(family.device)
    words = _for_each(features, len(order.seeds))
    negative = _negative_branch(family, transformer, order)
    for step, scale in enumerate(order.preset.guidance_schedule(family.guidance_strength)):
        sigma = sigmas[step].expand(len(order.seeds))
        velocity = family.predict_velocity(transformer, latents, sigma, words, guidance=1.0).float()
        if scale != 1:
            velocity = scale * velocity + (1 - scale) * negative(latents, sigma).float()
        moved = latents.tokens + (sigmas[step + 1] - sigmas[step]) * velocity
        latents = Latents(moved, rows, columns)
        each(step + 1, order.preset.steps)
    return latents


def _negative_branch(
    family: Ideogram4Family, transformer: Any, order: Order
) -> Callable[[Latents, torch.Tensor], torch.Tensor]:
    if order.negative is not None or order.branch == "conditional-empty-prompt":
        features = order.negative or family.encode_captions([""])
        words = _for_each(features, len(order.seeds))
        return lambda latents, sigma: family.predict_velocity(transformer, latents, sigma, words, guidance=1.0)
    network = transformer if order.branch == "conditional-image-only" else family.load_unconditional()
    return lambda latents, sigma: family.predict_wordless(network, latents, sigma)


def _for_each(features: Features, count: int) -> Features:
    return Features(features.tokens.expand(count, -1, -1), features.pooled.expand(count, -1))
