"""More steps are not worse: the slow speed follows prompts as well as the fast one, in every shape."""

from __future__ import annotations

import statistics

import pytest
from miniature.evaluate import unseen_prompts
from miniature.judge import judge
from miniature.world.captions import parse_prompt

from tintype.catalog.ideogram_v4 import RenderingSpeed
from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.inference.presets import ASPECT_RATIOS
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings

pytestmark = pytest.mark.long

SQUARES = [(1024, 1024)] * 30
SHAPES = [size for size in ASPECT_RATIOS.values() for _ in range(2)]


@pytest.mark.parametrize("sizes", [SQUARES, SHAPES], ids=["squares", "every ratio"])
def test_quality_over_thirty_pictures_is_not_below_turbo(sizes: list[tuple[int, int]]) -> None:
    inference = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").inference(IdeogramInference)

    def mean(speed: RenderingSpeed) -> float:
        shares = []
        for seed, (prompt, (width, height)) in enumerate(zip(unseen_prompts(len(sizes)), sizes, strict=True)):
            request = IdeogramImageRequest(prompt, width, height, speed)
            (reading,) = judge().read(inference.generate(request, inference.prepare(request), [seed]))
            shares.append(reading.adherence(parse_prompt(prompt)))
        return statistics.fmean(share for share in shares if share is not None)

    assert mean("QUALITY") >= mean("TURBO") - 0.03
