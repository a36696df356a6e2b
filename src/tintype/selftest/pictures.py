"""Whether what generates here makes diffusers' own pictures, and LoRAs come and go without a trace."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.presets import SPEEDS
from tintype.models.ideogram4.captions import canonical
from tintype.models.placement import ENCODERS, TRANSFORMER
from tintype.selftest.checked_base import CAPTION, CheckedBase
from tintype.selftest.result import CheckFailed, Found, NotRun

_SEED = 11
_PADDING = 16  # tokens that Ideogram's pipeline adds to the text; its whole window would take minutes on a CPU
# Levels of 255 on average. Ideogram's pipeline pads its text and we do not, so that sums are added up in another order;
# in half precision that shows. Two pictures of different seeds are some 50 apart. The latter limit is an estimate.
_MOST_DIFFERENCE, _MOST_IN_HALF = 0.1, 5.0


def check_picture(base: CheckedBase) -> Found:
    """Compares the picture of one prompt and seed with that of a fresh pipeline of diffusers."""
    base.inference.apply_loras([])
    ours, theirs = generated(base), _by_diffusers(base)
    if ours.size != theirs.size:
        raise CheckFailed(f"{ours.size} pixels, and diffusers' {theirs.size}")
    levels = _levels(ours)
    apart = np.abs(levels - _levels(theirs))
    figures: dict[str, Any] = {
        "size": list(ours.size),
        "mean_difference": round(float(apart.mean()), 4),
        "largest_difference": int(apart.max()),
        "mean_level": round(float(levels.mean()), 2),
        "spread": round(float(levels.std()), 2),
    }
    if not levels.std():
        raise CheckFailed("the picture is of one colour", **figures)
    most = _MOST_DIFFERENCE if base.family.dtype == torch.float32 else _MOST_IN_HALF
    if apart.mean() > most:
        raise CheckFailed(f"{apart.mean():.2f} levels from diffusers' on average, at most {most} is allowed", **figures)
    same = "the same as diffusers'" if not apart.any() else f"at most {apart.max()} of 255 levels from diffusers'"
    return Found(f"{ours.width}x{ours.height}, {same}", figures)


def check_swapped(base: CheckedBase) -> Found:
    """Generates with one LoRA, another one, the first again, and none: what was there before comes back to the bit."""
    first, second = (LoraRequest(base.lora_file(seed)) for seed in (1, 2))
    pictures = []
    for loras in ([], [first], [second], [first], []):
        base.inference.apply_loras(loras)
        pictures.append(generated(base).tobytes())
    bare, one, other, again, after = pictures
    if len({bare, one, other}) < 3:
        raise CheckFailed("a LoRA does not change the picture")
    if one != again:
        raise CheckFailed("the first LoRA makes another picture after the second one")
    if bare != after:
        raise CheckFailed("the base makes another picture after LoRAs")
    return Found("two LoRAs and none: each picture comes back to the bit")


def check_turns(base: CheckedBase) -> Found:
    """Generates while no two networks may be on the device at once, and measures how fast they come back."""
    family, place = base.family, base.family.placement
    base.inference.apply_loras([])
    picture, features = generated(base), family.encode_captions([CAPTION])
    with place.taking_turns():
        if not torch.equal(family.encode_captions([CAPTION]).tokens, features.tokens):
            raise CheckFailed("a text encoder that was away reads otherwise")
        if generated(base).tobytes() != picture.tobytes():
            raise CheckFailed("networks that were away make another picture")
        place.bring(TRANSFORMER)
        place.moved, began = 0, time.perf_counter()
        for name in (ENCODERS, TRANSFORMER):
            place.bring(name)
        seconds = time.perf_counter() - began
    same = "text and picture are the same to the bit"
    if family.device.type == "cpu":
        return Found(f"{same}; nothing is copied on a CPU")
    figures = {"copied_bytes": place.moved, "seconds": round(seconds, 3)}
    return Found(f"{same}; networks come at {place.moved / seconds / 1e9:.1f} GB/s", figures)


def generated(base: CheckedBase) -> Image.Image:
    """Generates the picture of the fixed prompt and seed as the endpoints do."""
    inference, (width, height) = base.inference, base.extent.picture
    if isinstance(inference, FluxInference):
        request = FluxImageRequest(CAPTION, width, height, base.extent.picture_steps, inference.family.guidance_scale)
        return inference.generate(request, [_SEED])[0]
    if isinstance(inference, IdeogramInference):
        wanted = IdeogramImageRequest(canonical(CAPTION).text, width, height, speed="TURBO", expand=False)
        return inference.generate(wanted, inference.prepare(wanted), [_SEED])[0]
    raise NotRun("no picture is known for this base model")


@torch.no_grad()
def _by_diffusers(base: CheckedBase) -> Image.Image:
    family, inference = base.family, base.inference
    if not family.placement.bring_all():
        raise NotRun("the device does not hold all networks at once, as a pipeline of diffusers has to")
    width, height = family.true_size(*base.extent.picture)
    fixed = {"width": width, "height": height, "generator": torch.Generator().manual_seed(_SEED)}
    if isinstance(inference, FluxInference):
        told: dict[str, Any] = {
            "num_inference_steps": base.extent.picture_steps,
            "guidance_scale": inference.family.guidance_scale,
            "max_sequence_length": family.max_sequence_length,
        }
        picture: Image.Image = family.fresh_pipeline()(CAPTION, **fixed, **told).images[0]
        return picture
    preset = SPEEDS["TURBO"]
    told = {
        "num_inference_steps": preset.steps,
        "guidance_schedule": preset.guidance_schedule(inference.family.guidance_strength),
        "mu": inference.family.schedule_mean(preset.mu),
        "std": preset.std,
    }
    text = canonical(CAPTION).text
    told["max_sequence_length"] = family.count_tokens(text) + _PADDING
    picture = family.fresh_pipeline()(text, **fixed, **told).images[0]
    return picture


def _levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)
