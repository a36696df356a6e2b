"""The step wastes no operation: counted at the real widths; FLUX with few blocks, so that the test is quick."""

from __future__ import annotations

import pytest
from bench.flops import IDEOGRAM_FLOOR, META, count, rows_of
from bench.weightless import REAL, WeightlessFlux, WeightlessIdeogram4

WIDTH, MLP = 3072, 4 * 3072
TEXT, IMAGE = 512, 1024  # 512 px

pytestmark = pytest.mark.long  # `make test-long` checks the bench


def floor(doubles: int, singles: int, *, recomputed: bool) -> float:
    """TFLOP of one step by the arithmetic of FIELD §2.3 for so many blocks.

    Each token passes 12 widths² of weights in either kind of block; a frozen product's backward is one product; the
    backward of attention, spelled out as it is here, is twice its forward.
    """
    tokens = TEXT + IMAGE
    linear = 2 * tokens * (4 * WIDTH**2 + 2 * WIDTH * MLP) * (doubles + singles)
    attention = 4 * tokens**2 * WIDTH * (doubles + singles)
    passes = 3 if recomputed else 2
    return (linear * passes + attention * (passes + 1)) / 1e12


@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_costs_at_most_three_percent_more_than_the_arithmetic_says(recompute: bool) -> None:
    few = WeightlessFlux(REAL | {"num_layers": 2, "num_single_layers": 2}, META)
    one = WeightlessFlux(REAL | {"num_layers": 1, "num_single_layers": 1}, META)
    # The difference of two depths leaves embeddings, ends, and the first and last block's savings out.
    counted = count(few, 512, recompute=recompute) - count(one, 512, recompute=recompute)
    wanted = floor(1, 1, recomputed=recompute)
    assert 0.97 * wanted < counted < 1.03 * wanted


def test_a_step_of_ideogram_4_costs_at_most_three_percent_more_than_the_arithmetic_says() -> None:
    smallest = min(IDEOGRAM_FLOOR.by_side)  # least attention, of which the count leaves some out
    rows = rows_of(WeightlessIdeogram4(META), IDEOGRAM_FLOOR, [smallest])
    assert [row["recomputed"] for row in rows] == ["nothing", "all"]
    assert all(0.97 < row["ratio"] <= 1.03 for row in rows)
