"""Which images a step sees. The order is a pure function of seed and step, so a resumed run needs no state.

An epoch shows every image at every size once; a batch holds one size, because shapes must agree. A last batch that
would be short is filled up from the same size.
"""

from __future__ import annotations

import functools
import math
import random

from tintype.training.cache import Item


class Batches:
    """The endless, seeded order of batches over the cached items."""

    def __init__(self, items: list[Item], size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._items = items
        by_shape: dict[tuple[int, int], list[int]] = {}
        for index, item in enumerate(items):
            by_shape.setdefault(item.shape, []).append(index)
        self._shapes = [by_shape[shape] for shape in sorted(by_shape)]
        self.per_epoch = sum(math.ceil(len(members) / size) for members in self._shapes)
        self._epoch = functools.lru_cache(maxsize=2)(self._order)

    def at(self, step: int) -> list[Item]:
        """Returns the batch of a step, counted from 0."""
        epoch, place = divmod(step, self.per_epoch)
        return [self._items[index] for index in self._epoch(epoch)[place]]

    def _order(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"batches {self._seed} {epoch}")
        batches = []
        for members in self._shapes:
            shuffled = rng.sample(members, len(members))
            while len(shuffled) % self._size:  # an image may come twice in a batch; its noise differs
                shuffled += rng.sample(members, min(len(members), self._size - len(shuffled) % self._size))
            batches += [shuffled[start : start + self._size] for start in range(0, len(shuffled), self._size)]
        rng.shuffle(batches)
        return batches
