"""bf16 is what a GPU trains in; on the CPU it must come to the same picture, or the real model's path is broken."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from bench.likeness import learn

from tintype.jobs.resident_models import ResidentModels
from tintype.models.flux.model import FluxFamily
from tintype.models.weights import resolve
from tintype.settings import Settings, load_settings

pytestmark = pytest.mark.long

SUBJECTS = (41, 42)
STEPS = 400


class HalfPrecision(ResidentModels):
    """The miniature in the real model's precision."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "cpu")
        self._half = FluxFamily(resolve(settings, "flux"), torch.device("cpu"), torch.bfloat16)

    def flux(self) -> FluxFamily:
        return self._half


def test_training_in_bf16_comes_within_a_tenth_of_the_likeness_of_fp32(tmp_path: Path) -> None:
    settings = load_settings(flux_base="miniature")
    likeness = {}
    for name, models in (("fp32", ResidentModels(settings, "cpu")), ("bf16", HalfPrecision(settings))):
        learned = [learn(one, {"steps": STEPS}, models, settings, tmp_path / name, photos=10) for one in SUBJECTS]
        likeness[name] = statistics.fmean(one.likeness for one in learned)
    assert likeness["fp32"] >= 0.5, "both would be equal if neither learned anything"
    assert abs(likeness["bf16"] - likeness["fp32"]) <= 0.1
