"""Bases stay resident side by side, and where both do not fit the one that is wanted now takes the place."""

from __future__ import annotations

import gc
import weakref

import pytest

from tintype.models import resident as families
from tintype.models.resident import Families
from tintype.settings import load_settings

SETTINGS = load_settings(flux_base="miniature", ideogram4_base="miniature", device="cpu")


def test_both_bases_stay_where_they_fit() -> None:
    resident = Families(SETTINGS, "cpu")
    flux, sampler = resident.flux(), resident.flux_sampler()
    assert resident.ideogram_sampler().family is resident.ideogram4()
    assert resident.flux() is flux
    assert resident.flux_sampler() is sampler


def test_a_base_gives_way_to_one_that_does_not_fit_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Families(SETTINGS, "cpu")
    transformer = weakref.ref(resident.flux_sampler().family.load_transformer())
    monkeypatch.setattr(families, "free_bytes", lambda device: 1_000_000)
    ideogram = resident.ideogram4()
    gc.collect()
    assert transformer() is None, "its memory is free again"
    assert resident.ideogram4() is ideogram, "what is resident is not loaded again"
    assert resident.flux_sampler().family.load_transformer() is not None
