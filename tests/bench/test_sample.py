"""Drawing wastes no operation: counted at the real width, with few blocks so that the test is quick."""

from __future__ import annotations

import pytest
from bench.sample import META, RANK, count
from bench.weightless import WeightlessIdeogram4
from peft import LoraConfig

WIDTH, MLP = 4608, 12_288
TEXT, IMAGE = 512, 4096  # 1024 px

pytestmark = pytest.mark.long  # `make test-long` checks the bench


def floor(rank: int) -> float:
    """TFLOP of one guided step in one block: the first network sees text and picture, the second the picture alone.

    A token passes four widths squared of attention and three matrices of the MLP, and with a LoRA both its factors.
    """
    linear = 4 * WIDTH**2 + 3 * WIDTH * MLP
    adapter = rank * (4 * 2 * WIDTH + 3 * (WIDTH + MLP))
    both, alone = TEXT + IMAGE, IMAGE
    passed = 2 * (both + alone) * linear + 2 * both * adapter
    return (passed + 4 * (both**2 + alone**2) * WIDTH) / 1e12


@pytest.mark.parametrize("rank", [0, RANK])
def test_a_step_costs_at_most_three_percent_more_than_the_arithmetic_says(rank: int) -> None:
    counted = []
    for layers in (2, 1):
        family = WeightlessIdeogram4(META, config={"num_layers": layers})
        if rank:
            targets = list(family.adapter_targets)
            family.load_transformer().add_adapter(LoraConfig(r=rank, target_modules=targets))
        counted.append(count(family, 1024, TEXT))
    wanted = floor(rank)
    assert 0.97 * wanted < counted[0] - counted[1] < 1.03 * wanted
