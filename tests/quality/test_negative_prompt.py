"""What a negative prompt names is there less often: read off the pictures by the judge."""

from __future__ import annotations

import pytest
from miniature.judge import judge

from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings

SEEDS = range(12)


@pytest.fixture(scope="module")
def inference() -> IdeogramInference:
    return ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").inference(IdeogramInference)


def count(inference: IdeogramInference, negative_prompt: str, attribute: str, value: str) -> int:
    request = IdeogramImageRequest("a portrait of a person", 1024, 1024, "TURBO", negative_prompt=negative_prompt)
    readings = judge().read(inference.generate(request, inference.prepare(request), SEEDS))
    return sum(reading.attributes[attribute] == value for reading in readings)


def test_what_is_not_wanted_is_not_drawn(inference: IdeogramInference) -> None:
    assert count(inference, "", "background", "green") >= 2, "there has to be something to avoid"
    assert count(inference, "green background", "background", "green") == 0
