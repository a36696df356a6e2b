"""Predictions against counts at the published widths, and what is planned from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench.weightless import REAL, WeightlessFlux, WeightlessIdeogram4
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from peft import LoraConfig
from tests.support.live_bytes import fullest
from tests.training.test_memory_plan import features_for

from tintype.models.family import Family, Latents
from tintype.models.flux import FAMILY
from tintype.models.generating_memory import decoding_bytes, plan_of, step_bytes
from tintype.models.placement import ENCODERS, TRANSFORMER, UNCONDITIONAL

META = torch.device("meta")
SIDE = 512  # pixels


def one_block(base: str) -> Family:
    """Of the published width: what is needed at the fullest does not grow with the number of blocks."""
    if base == "flux":
        return WeightlessFlux({**REAL, "num_layers": 1, "num_single_layers": 1}, META)
    return WeightlessIdeogram4(META, config={"num_layers": 1})


@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_step_with_a_lora_takes_what_is_predicted(base: str) -> None:
    family = one_block(base)
    network, side = family.load_transformer(), SIDE // family.token_pixels
    network.add_adapter(LoraConfig(r=16, target_modules=list(family.adapter_targets)))
    tokens = torch.empty(1, side * side, network.config.in_channels, device=META, dtype=family.dtype)
    features = features_for(network, 512, 1)

    def step() -> Any:
        return family.predict_velocity(network, Latents(tokens, side, side), torch.rand(1), features, 1.0)

    assert step_bytes(family, SIDE, SIDE) == pytest.approx(fullest(step, network), rel=0.15)


@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_decoding_and_encoding_take_what_is_predicted(base: str) -> None:
    with META:
        assert FAMILY.layout is not None
        flux = AutoencoderKL.from_config(AutoencoderKL.load_config(FAMILY.layout / "vae"))
        network = (flux if base == "flux" else AutoencoderKLFlux2()).to(torch.bfloat16)
        latents = torch.empty(1, network.config.latent_channels, SIDE // 8, SIDE // 8, dtype=torch.bfloat16)
        pixels = torch.empty(1, 3, SIDE, SIDE, dtype=torch.bfloat16)
    predicted = decoding_bytes(one_block(base), SIDE, SIDE)
    assert predicted == pytest.approx(fullest(lambda: network.decode(latents, return_dict=False), network), rel=0.02)
    assert predicted >= fullest(lambda: network.encode(pixels, return_dict=False), network)


@pytest.mark.parametrize(
    ("encoders", "room", "how", "for_prompt", "for_step"),
    [
        (100, 328, "", 0, 0),
        (100, 327, "encoders leave", 100, 0),
        (100, 222, "encoders leave", 200, 0),  # and one network, while text is read
        (100, 221, "encoders leave, one network at a time", 100, 100),
        (150, 116, "encoders layer by layer, one network at a time", 150, 100),
    ],
)
def test_as_little_leaves_as_has_to(encoders: int, room: int, how: str, for_prompt: int, for_step: int) -> None:
    sizes = {ENCODERS: encoders, TRANSFORMER: 100, UNCONDITIONAL: 100}
    plan = plan_of(sizes, 0, 10, 10, room)
    assert (plan.how, plan.for_prompt, plan.for_step, plan.fits) == (how, for_prompt, for_step, True)
    assert plan.needed <= room


def test_what_cannot_fit_says_what_would_be_needed() -> None:
    sizes = {ENCODERS: 100, TRANSFORMER: 100, UNCONDITIONAL: 100}
    plan = plan_of(sizes, 0, 10, 10, 100)
    assert (plan.fits, plan.needed) == (False, 116)
    tiled = plan_of(sizes, 0, 10, 400, 328, tile=10)
    assert (tiled.fits, tiled.how) == (True, "tiled")
    assert not plan_of(sizes, 0, 10, 400, 328, tile=329).fits
