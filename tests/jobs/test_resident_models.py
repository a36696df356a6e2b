"""Bases stay resident side by side, and where both do not fit the one that is wanted now takes the place."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from tintype.inference.flux import FluxInference
from tintype.inference.ideogram4 import IdeogramInference
from tintype.jobs import resident_models
from tintype.jobs.resident_models import ResidentModels
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights
from tintype.settings import load_settings

SETTINGS = load_settings(flux_base="miniature", ideogram4_base="miniature", device="cpu")


def test_both_bases_stay_where_they_fit() -> None:
    resident = ResidentModels(SETTINGS, "cpu")
    flux, inference = resident.family(FluxFamily), resident.inference(FluxInference)
    assert resident.inference(IdeogramInference).family is resident.family(Ideogram4Family)
    assert resident.family(FluxFamily) is flux
    assert resident.inference(FluxInference) is inference


def test_a_base_gives_way_to_one_that_does_not_fit_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = ResidentModels(SETTINGS, "cpu")
    transformer = weakref.ref(resident.inference(FluxInference).family.load_transformer())
    monkeypatch.setattr(resident_models, "free_bytes", lambda device: 1_000_000)
    ideogram = resident.inference(IdeogramInference).family
    gc.collect()
    assert transformer() is None, "its memory is free again"
    assert resident.family(Ideogram4Family) is ideogram, "what is resident is not loaded again"
    assert resident.inference(FluxInference).family.load_transformer().config.num_layers > 0


def test_each_lane_reads_a_base_in_the_precision_that_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def chosen(weights: BaseWeights, device: str, lane: str, most: int | None) -> BaseWeights:
        asked.append((weights.family, weights.precision, device, lane))
        return replace(weights, precision="fp8")

    monkeypatch.setattr(resident_models, "with_precision", chosen)
    resident = ResidentModels(SETTINGS, "cpu")
    assert resident.inference(FluxInference).family.weights.precision == "fp8"
    assert resident.family(FluxFamily).name == "the built-in miniature of FLUX.1 [dev] in fp8", "it stays as it is"
    resident.family(Ideogram4Family)
    assert asked == [("flux", "stored", "cpu", "inference"), ("ideogram4", "stored", "cpu", "training")]
