"""Steps of training in each order of work: do they agree, how long do they take, how much memory."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from functools import partial
from typing import Any

import torch

from tintype.devices import lacking_for_compiling
from tintype.models.family import Forward
from tintype.selftest.checked_base import CheckedBase
from tintype.selftest.result import CheckFailed, Found, NotRun
from tintype.training.batches import Batches
from tintype.training.checkpoint import TrainingState
from tintype.training.curve import peak_memory
from tintype.training.memory_plan import gib
from tintype.training.plan import Plan
from tintype.training.step import Stepper

_MORE_STEPS = 10_000  # than are taken, so that none is the last
# Of a loss, between two orders of work; products are added up in another order.
_TOLERANCE, _TOLERANCE_IN_HALF = 1e-3, 5e-2


class StepChecks:
    """The checks of one base model's steps. The first order of work says which losses the others must have."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self.own = partial(self.take, Forward.OWN)
        self.plain = partial(self.take, Forward.DIFFUSERS)

    def compiled(self, base: CheckedBase) -> Found:
        """Takes compiled steps where training would compile."""
        if base.family.device.type != "cuda":
            raise NotRun("training compiles for GPUs only")
        if lacking := lacking_for_compiling():
            raise NotRun(lacking)
        return self.take(Forward.COMPILED, base)

    def take(self, forward: Forward, base: CheckedBase) -> Found:
        """Takes steps of every size in one order of work, and compares their losses."""
        steps = _Steps(base, forward)
        figures = steps.take()
        if not all(map(math.isfinite, steps.losses)):
            raise CheckFailed("a loss is not finite", **figures)
        if steps.forward is not forward:
            if forward is Forward.COMPILED:
                raise CheckFailed(steps.why or "it went on uncompiled", **figures)
            raise NotRun("layers of these weights are no plain matrices")
        self._compare(base, steps.losses, figures)
        return Found(_told(figures), figures)

    def _compare(self, base: CheckedBase, losses: list[float], figures: dict[str, Any]) -> None:
        self._losses = self._losses or losses
        apart = max(abs(ours - first) / abs(first) for ours, first in zip(losses, self._losses, strict=True))
        figures["largest_difference_of_losses"] = apart
        most = _TOLERANCE if base.family.dtype == torch.float32 else _TOLERANCE_IN_HALF
        if apart > most:
            raise CheckFailed(f"a loss is {apart:.2%} from that of the first order of work", **figures)


class _Steps:
    """So many steps of every size, in one order of work."""

    def __init__(self, base: CheckedBase, forward: Forward) -> None:
        cache = base.trained_cache()
        self._names, self._device = [item.name for item in cache.items], base.family.device
        self._count = (1 + base.extent.rounds) * len(cache.items)
        defaults = base.family.training_defaults
        plan = Plan(_MORE_STEPS, 1e-4, guidance=defaults.training_guidance, autocast=defaults.autocast, ema_decay=0.9)
        self._stepper = Stepper(base.family, base.adapter(0), cache, plan, forward=forward)
        self._batches = Batches(cache.items, plan.batch_size, plan.seed)
        self.losses: list[float] = []

    @property
    def forward(self) -> Forward:
        """The order of work that was taken in the end."""
        return self._stepper.forward

    @property
    def why(self) -> str:
        """Why nothing was compiled."""
        return self._stepper.why_not_compiled

    def take(self) -> dict[str, Any]:
        """Takes the steps; gives figures by size."""
        seconds: dict[str, list[float]] = defaultdict(list)
        peaks: dict[str, int] = defaultdict(int)
        with self._stepper.prepared():
            state = TrainingState.new(self._stepper.adapter.weights.data)
            for step in range(self._count):
                size = self._batches.at(step)[0].name
                seconds[size].append(self._timed(state))
                peaks[size] = max(peaks[size], peak_memory(self._device))
        sizes = {size: _figures(seconds[size], peaks[size]) for size in self._names}
        return {"sizes": sizes, "losses": self.losses, **self._stepper.figures()}

    def _timed(self, state: TrainingState) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        began = time.perf_counter()
        self.losses.append(self._stepper.take(state).loss)  # waits for the step
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        state.step += 1
        return time.perf_counter() - began


def _figures(seconds: list[float], peak: int) -> dict[str, Any]:
    first, *later = seconds
    return {"first_seconds": round(first, 4), "seconds": round(statistics.median(later), 4), "peak_bytes": peak}


def _told(figures: dict[str, Any]) -> str:
    sizes = ", ".join(f"{size} {found['seconds']:.3g} s" for size, found in figures["sizes"].items())
    return f"{sizes} a step; peak {gib(max(found['peak_bytes'] for found in figures['sizes'].values()))}"
