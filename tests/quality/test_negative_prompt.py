"""What a negative prompt names is there less often: read off the pictures by the judge."""

from __future__ import annotations

import pytest
from miniature.judge import judge

from tintype.inference.ideogram4 import IdeogramSampler, IdeogramWish
from tintype.models.resident import Families
from tintype.settings import load_settings

SEEDS = range(12)


@pytest.fixture(scope="module")
def sampler() -> IdeogramSampler:
    return Families(load_settings(ideogram4_base="miniature"), "cpu").ideogram_sampler()


def count(sampler: IdeogramSampler, negative_prompt: str, attribute: str, value: str) -> int:
    wish = IdeogramWish("a portrait of a person", 1024, 1024, "TURBO", negative_prompt=negative_prompt)
    readings = judge().read(sampler.draw(wish, sampler.word(wish), SEEDS))
    return sum(reading.attributes[attribute] == value for reading in readings)


def test_what_is_not_wanted_is_not_drawn(sampler: IdeogramSampler) -> None:
    assert count(sampler, "", "background", "green") >= 2, "there has to be something to avoid"
    assert count(sampler, "green background", "background", "green") == 0
