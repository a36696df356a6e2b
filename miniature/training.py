"""Trains for minutes, not steps, and can be stopped at any moment: the one loop behind every stage.

A miniature's recipe promises a wall-clock time on two cores, so the learning rate follows the share of the time that
is used up. A checkpoint holds all that the next step depends on, random numbers included: but for the clock, a stage
that is stopped and started again makes the weights of one that was left alone.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

#: What a step returns: the loss to go down, and the figures to print.
Losses = tuple[torch.Tensor, dict[str, torch.Tensor]]
_TELL_SECONDS = 15
_KEEP_FIGURES = 0.99  # of a figure's running mean at every step
_KEEP_WEIGHTS = 0.998  # of the weights' moving average, once there have been many steps


class Stateful(Protocol):
    """Keeps what a checkpoint holds beside weights, optimisers and random numbers, in torch's own manner."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Training:
    """Trains modules until its minutes are used up, restarts included; its state lies in one file."""

    save_seconds = 60.0

    def __init__(
        self,
        path: Path,
        minutes: float,
        learning: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        rate: Callable[[float, int], float],
        *,
        clip: bool = True,
        average: bool = False,
        task: Stateful | None = None,
    ) -> None:
        """`rate` gives the share of the optimisers' own rates, from the fraction of the time and the step.

        With `average` a moving average of the weights is kept, which is what gets released.
        """
        self.name, self.path, self.budget = path.stem, path, minutes * 60
        self.rng = random.Random(self.name)
        self.step = 0
        self.average = copy.deepcopy(learning).requires_grad_(False) if average else None
        self._learning, self._optimizers, self._rate = learning, optimizers, rate
        self._peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        self._clip, self._task = clip, task
        self._spent, self._since, self._saved_at, self._told_at = 0.0, time.monotonic(), 0.0, -math.inf
        self._means: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """Counts the seconds of training so far, earlier runs included."""
        return self._spent + time.monotonic() - self._since

    @property
    def fraction(self) -> float:
        """Gives the share of the time that is used up."""
        return min(1.0, self.spent / self.budget)

    def run(self, losses: Callable[[Training], Losses]) -> None:
        """Trains, or goes on where the last checkpoint stood, until the time is used up."""
        if self.path.exists():
            self._restore(torch.load(self.path, map_location="cpu", weights_only=True))
        self._since = time.monotonic()  # setting up is not charged
        while self.fraction < 1:
            share = self._rate(self.fraction, self.step)
            for optimizer, peak in zip(self._optimizers, self._peaks, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = peak * share
            loss, figures = losses(self)
            self._move(loss)
            self.step += 1
            self._tell(figures)
            if self.spent - self._saved_at >= self.save_seconds:
                self._save()
        self._save()

    def _move(self, loss: torch.Tensor) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip:
            torch.nn.utils.clip_grad_norm_(self._learning.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        if self.average is not None:
            keep = min(_KEEP_WEIGHTS, (self.step + 1) / (self.step + 20))
            weights = [parameter.detach() for parameter in self._learning.parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - keep)

    def _save(self) -> None:
        """Writes the checkpoint beside the old one, then puts it in its place: a kill loses at most one interval."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".fresh")
        state = {
            "learning": self._learning.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "task": None if self._task is None else self._task.state_dict(),
            "random": (self.rng.getstate(), torch.get_rng_state(), torch.cuda.get_rng_state_all()),
        }
        torch.save({**state, "step": self.step, "spent": self.spent}, fresh)
        fresh.replace(self.path)
        self._saved_at = self.spent

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._learning.load_state_dict(state["learning"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        if self._task is not None:
            self._task.load_state_dict(state["task"])
        drawn, on_cpu, on_devices = state["random"]
        self.rng.setstate(drawn)
        torch.set_rng_state(on_cpu)
        torch.cuda.set_rng_state_all(on_devices)
        self.step, self._spent, self._saved_at = state["step"], state["spent"], state["spent"]

    def _tell(self, figures: Mapping[str, torch.Tensor]) -> None:
        """Prints the figures' running means now and then."""
        for name, figure in figures.items():
            mean = self._means.get(name, figure.item())
            self._means[name] = _KEEP_FIGURES * mean + (1 - _KEEP_FIGURES) * figure.item()
        if self.spent - self._told_at < _TELL_SECONDS:
            return
        self._told_at = self.spent
        told = "  ".join(f"{name} {mean:.4f}" for name, mean in self._means.items())
        print(f"{self.name}  {self.spent / 60:.1f} of {self.budget / 60:.1f} min  step {self.step}  {told}", flush=True)


def warm_cosine(fraction: float, step: int, warm_steps: int = 50, floor: float = 0.02) -> float:
    """Gives the share of the peak learning rate: a linear start, then half a cosine down to the floor."""
    return min(1.0, (step + 1) / warm_steps) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fraction)))


def load_average(path: Path, modules: nn.ModuleDict) -> None:
    """Loads into modules their moving average as last saved, trained to the end or not."""
    weights = torch.load(path, map_location="cpu", weights_only=True)["average"]
    modules.load_state_dict({name: weights[name] for name in modules.state_dict()})
