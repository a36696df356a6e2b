"""Bases stay resident side by side, and where both do not fit the one that is wanted now takes the place."""

from __future__ import annotations

import gc
import weakref

import pytest

from tintype.inference.flux import FluxInference
from tintype.inference.ideogram4 import IdeogramInference
from tintype.jobs import resident_models
from tintype.jobs.resident_models import ResidentModels
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
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
