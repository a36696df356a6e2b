"""The two loops that are timed against each other take the very same steps."""

from __future__ import annotations

from bench.train_step import compare

from tintype.families import Families
from tintype.settings import load_settings


def test_both_loops_have_the_same_losses_all_the_way() -> None:
    flux = Families(load_settings(flux_base="miniature"), "cpu").flux()
    row = compare(flux, 512, rounds=2, steps=2)
    assert row["losses_apart"] < 1e-3
    assert row["straightforward_ms"] > 0
    assert row["tokens"] == 48 + 16
