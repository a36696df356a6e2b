"""The order in which pictures are seen."""

from __future__ import annotations

from collections import Counter

import torch

from tintype.training.batches import Batches
from tintype.training.cache import Item


def items(**shapes: tuple[int, int]) -> list[Item]:
    return [Item(name, torch.zeros(1), *shape, 0, None) for name, shape in shapes.items()]


MIXED = items(a=(8, 8), b=(8, 8), c=(8, 8), d=(4, 4), e=(4, 4), f=(4, 4), g=(6, 4))


def test_an_epoch_shows_every_picture() -> None:
    batches = Batches(MIXED, 2, seed=1)
    for epoch in range(3):
        seen = Counter(
            item.name for step in range(batches.per_epoch) for item in batches.at(epoch * batches.per_epoch + step)
        )
        assert set(seen) == set("abcdefg")
        assert max(seen.values()) - min(seen.values()) <= 1


def test_a_batch_has_one_shape_and_its_full_size() -> None:
    batches = Batches(MIXED, 4, seed=1)
    for step in range(30):
        assert len(batches.at(step)) == 4
        assert len({item.shape for item in batches.at(step)}) == 1


def test_the_order_is_a_function_of_seed_and_step_alone() -> None:
    def order(seed: int, steps: range) -> list[list[str]]:
        batches = Batches(MIXED, 2, seed)
        return [[item.name for item in batches.at(step)] for step in steps]

    assert order(1, range(40))[25:] == order(1, range(25, 40))
    assert order(1, range(40)) != order(2, range(40))


def test_epochs_differ() -> None:
    batches = Batches(MIXED, 1, seed=1)
    first, second = (
        [batches.at(epoch * batches.per_epoch + step)[0].name for step in range(batches.per_epoch)] for epoch in (0, 1)
    )
    assert first != second
    assert sorted(first) == sorted(second)
