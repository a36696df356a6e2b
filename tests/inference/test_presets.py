"""The numbers of the published speeds and sizes, checked against the pipeline that has to accept them."""

from __future__ import annotations

import inspect
import math
from typing import get_args

import pytest
from diffusers import Ideogram4Pipeline

from tintype.catalog.ideogram_custom_models import AspectRatio
from tintype.catalog.ideogram_v4 import RenderingSpeed
from tintype.catalog.ideogram_v4_trainer import TRAINER_SIZES
from tintype.inference.presets import ASPECT_RATIOS, SPEEDS


def test_quality_is_the_pipelines_own_default() -> None:
    defaults = {name: given.default for name, given in inspect.signature(Ideogram4Pipeline.__call__).parameters.items()}
    quality = SPEEDS["QUALITY"]
    assert quality.steps == defaults["num_inference_steps"]
    assert quality.guidance_schedule() == defaults["guidance_schedule"]
    assert (quality.mu, quality.std) == (defaults["mu"], defaults["std"])


def test_every_speed_guides_each_of_its_steps_and_ends_gently() -> None:
    assert set(SPEEDS) == set(get_args(RenderingSpeed))
    assert [SPEEDS[name].steps for name in ("TURBO", "BALANCED", "QUALITY")] == [12, 20, 48]
    for preset in SPEEDS.values():
        guided = preset.guidance_schedule()
        assert len(guided) == preset.steps
        assert guided[0] == 7.0
        assert set(guided[-preset.polished :]) == {3.0}
        assert guided[-preset.polished - 1] == 7.0


def test_a_bases_strength_leaves_guidance_one_alone() -> None:
    halved = SPEEDS["TURBO"].guidance_schedule(0.5)
    assert halved[0] == 4.0
    assert halved[-1] == 2.0
    assert set(SPEEDS["TURBO"].guidance_schedule(0.0)) == {1.0}


@pytest.mark.parametrize("name", get_args(AspectRatio))
def test_each_ratio_is_drawn_at_about_a_megapixel_in_whole_tokens(name: AspectRatio) -> None:
    width, height = ASPECT_RATIOS[name]
    across, down = (int(side) for side in name.split(":"))
    assert width % 16 == height % 16 == 0
    assert math.isclose(width / height, across / down, rel_tol=0.025)
    assert 0.7 < width * height / 1024**2 < 1.02
    mirrored: AspectRatio = f"{down}:{across}"  # type: ignore[assignment]
    assert ASPECT_RATIOS[mirrored] == (height, width)


def test_fifteen_ratios_and_seven_trainer_sizes() -> None:
    assert len(ASPECT_RATIOS) == 15
    assert len(TRAINER_SIZES) == 7
    assert all(width % 16 == height % 16 == 0 for width, height in TRAINER_SIZES.values())
