"""The figures that say how near a run came to the chip's limit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from bench.weightless import NARROW, WeightlessFlux

from tintype.training.flops import PEAKS, StepCost, _at_all_sizes, operations_of_step

WORK = StepCost(2e12, "plain products", 0.25, "NVIDIA H200", 989e12)


def test_a_step_costs_what_counting_its_products_by_hand_gives() -> None:
    pictured, text, rank = 16, 6, 1
    tokens, width = pictured + text, 32
    # A block's layers, by in x out: q, k, v, out of width^2 and an MLP of 4 widths. Frozen layers are one product in
    # each direction; attention two forward and four back.
    double, single = 12 * width**2, 12 * width**2
    blocks = (double + 2 * single) * 2 * 2 * tokens
    attention = 3 * 2 * 6 * tokens**2 * width
    narrow = WeightlessFlux(NARROW, torch.device("meta"))
    counted = operations_of_step(narrow, pictured, text, 1, rank)
    assert 0.85 * (blocks + attention) <= counted <= 1.35 * (blocks + attention)
    assert operations_of_step(narrow, pictured, text, 3, rank) == pytest.approx(3 * counted, rel=0.02)


def test_three_counts_tell_those_of_every_size() -> None:
    asked: list[int] = []

    def count(tokens: int) -> float:
        asked.append(tokens)
        return 7.0 + 3 * tokens + 2 * tokens**2

    told = _at_all_sizes(count, [4, 9, 16, 25, 36])
    assert len(asked) == 3
    assert told == pytest.approx({size: 7.0 + 3 * size + 2 * size**2 for size in (4, 9, 16, 25, 36)})


def test_the_share_of_the_peak_is_what_was_achieved_of_what_is_possible() -> None:
    told = WORK.figures(steps_per_second=100.0)
    assert told["share_of_peak"] == pytest.approx(200 / 989, abs=1e-4)
    assert json.loads(json.dumps(told)) == told
    assert "20% of the chip's peak" in WORK.said(100.0)


def test_where_the_peak_is_not_known_nothing_is_made_up() -> None:
    unknown = replace(WORK, chip="CPU", peak=None)
    assert unknown.figures(1.0)["share_of_peak"] == "not known"
    assert "not known" in unknown.said(1.0)


def test_a_chip_is_found_under_its_own_name_before_a_shorter_one() -> None:
    names = [part for part, _ in PEAKS]
    for place, name in enumerate(names):
        assert not any(earlier in name for earlier in names[:place]), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_names_its_attention_kernel() -> None:
    from tintype.models.attention import kernel_of

    assert "scaled_dot_product_attention" in kernel_of(torch.device("cuda"), torch.bfloat16, 4096)
