"""Trainings that are given minutes, not steps, and can be stopped at any moment.

The miniature's recipe promises a wall-clock time on two cores, so every stage is paced by time spent: the learning
rate follows the share of the budget used, and a stage that is started again goes on where its last save stood.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_KEEP = 0.99  # of a figure's running mean at every step


class Pace:
    """Counts the training time of one stage across restarts, and keeps its state in one file."""

    def __init__(self, name: str, path: Path, minutes: float, save_every_seconds: float = 90) -> None:
        self.name, self.path, self.budget = name, path, minutes * 60
        self.step, self._spent, self._since = 0, 0.0, time.monotonic()
        self._save_every, self._saved_at, self._told_at = save_every_seconds, 0.0, -1e9
        self._means: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self._spent + time.monotonic() - self._since

    @property
    def fraction(self) -> float:
        return min(1.0, self.spent / self.budget)

    def restore(self) -> dict[str, Any] | None:
        """The last saved state, or None at a first start. Setting up is not charged: call this last."""
        self._since = time.monotonic()
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        self.step, self._spent, self._saved_at = state["step"], state["spent"], state["spent"]
        return state

    def steps(self) -> Iterator[int]:
        """Step numbers until the budget is used up."""
        while self.fraction < 1:
            yield self.step
            self.step += 1

    def save_due(self) -> bool:
        return self.spent - self._saved_at >= self._save_every

    def save(self, **state: Any) -> None:
        """Writes the state beside the old one, then takes its place, so that a kill loses at most one interval."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".fresh")
        torch.save({**state, "step": self.step, "spent": self.spent}, fresh)
        fresh.replace(self.path)
        self._saved_at = self.spent

    def tell(self, every_seconds: float = 20, **figures: float) -> None:
        """Call at every step: prints the figures' running means, at most every so many seconds."""
        for name, figure in figures.items():
            self._means[name] = _KEEP * self._means.get(name, figure) + (1 - _KEEP) * figure
        if self.spent - self._told_at < every_seconds:
            return
        self._told_at = self.spent
        told = "  ".join(f"{name} {mean:.4f}" for name, mean in self._means.items())
        print(f"{self.name}  {self.spent / 60:.1f} of {self.budget / 60:.1f} min  step {self.step}  {told}", flush=True)


def warm_cosine(fraction: float, step: int, warm_steps: int, floor: float = 0.02) -> float:
    """Share of the peak learning rate: a linear start, then half a cosine down to the floor."""
    return min(1.0, (step + 1) / warm_steps) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fraction)))
