"""The two loops that are timed against each other take the very same steps."""

from __future__ import annotations

import pytest
from bench.train_step import compare, family_named

pytestmark = pytest.mark.long  # `make test-long` checks the bench


@pytest.mark.parametrize("window", [None, 160])
def test_both_loops_of_ideogram_have_the_same_losses_whatever_is_padded(window: int | None) -> None:
    row = compare(family_named("ideogram4"), 512, rounds=1, steps=2, window=window)
    assert row["losses_apart"] < 1e-3
    assert row["padded_to"] == (16 + window if window else row["tokens"])


def test_both_loops_have_the_same_losses_all_the_way() -> None:
    row = compare(family_named("flux"), 512, rounds=2, steps=2)
    assert row["losses_apart"] < 1e-3
    assert row["straightforward_ms"] > 0
    assert row["tokens"] == 48 + 16
