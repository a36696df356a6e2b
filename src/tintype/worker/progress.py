"""Turns the steps a job reports into the few lines of log that a person wants to read while waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

STEADY_SECONDS = 5.0  # a line this often while a job is slow
CLOSEST_SECONDS = 1.0  # and never more often than this
STEADY_LINES = 300  # after which only whole percents are told, so that 1,000 lines a request always suffice


class ProgressNotes:
    """Decides when a step is worth a line, and words it: `step 120/500 loss 0.081, 3.1 steps/s, 2 min left`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None  # time and step of the first report: a resumed run starts late
        self._last = (float("-inf"), -1)
        self._lines = 0

    def take(self, step: int, total: int, metrics: Mapping[str, float]) -> str | None:
        """Returns the line for this step, or None. `total` 0 means unknown."""
        now = self._clock()
        if self._first is None:
            self._first = (now, step)
        told_at, told_step = self._last
        if step == told_step:
            return None
        further = total > 0 and (step - told_step) * 100 >= total
        slow = now - told_at >= STEADY_SECONDS and self._lines < STEADY_LINES
        last = total > 0 and step >= total
        if not (last or slow or (further and now - told_at >= CLOSEST_SECONDS)):
            return None
        self._last = (now, step)
        self._lines += 1
        return self._worded(step, total, metrics)

    def pace(self, step: int, total: int) -> dict[str, float]:
        """Returns `steps_per_second` so far and, with a known total, `eta` in seconds; empty at an attempt's start."""
        if self._first is None:
            return {}
        began_at, began_step = self._first
        seconds, steps = self._clock() - began_at, step - began_step
        if seconds <= 0 or steps <= 0:
            return {}
        pace = {"steps_per_second": steps / seconds}
        if total > 0:
            pace["eta"] = max(0, total - step) * seconds / steps
        return pace

    def _worded(self, step: int, total: int, metrics: Mapping[str, float]) -> str:
        text = f"step {step}/{total}" if total else f"step {step}"
        if "loss" in metrics:
            text += f" loss {metrics['loss']:.3g}"
        pace = self.pace(step, total)
        if pace:
            text += f", {_rate(pace['steps_per_second'])}"
        if pace.get("eta"):
            text += f", {_left(pace['eta'])} left"
        return text


def _rate(steps_per_second: float) -> str:
    return f"{steps_per_second:.1f} steps/s" if steps_per_second >= 1 else f"{1 / steps_per_second:.1f} s/step"


def _left(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
