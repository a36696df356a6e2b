"""What a run tells about itself afterwards: figures for the config file, and the curve of its loss as a picture."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tintype.training.loop import Trained

_MOST_POINTS = 200  # of the loss curve in the config file
_SMOOTHING = 0.98
_INK, _DOTS, _MARK = "#1f4e8c", "#8fb3dd", "#b5521f"
_MOST_DOTS = 2000


def figures(trained: Trained, device: torch.device) -> dict[str, Any]:
    """Speed, memory, and the loss curve thinned to a few points of [step, smoothed loss]."""
    return {
        "steps": len(trained.losses),
        "skipped_steps": trained.skipped,
        "resumed_from_step": trained.resumed_from,
        "seconds": round(trained.seconds, 2),
        "steps_per_second": round(trained.steps_per_second, 3),
        "threads": trained.threads,
        "peak_memory_bytes": peak_memory(device),
        "loss_curve": [[step, round(loss, 5)] for step, loss in _thinned(trained.losses)],
    }


def smoothed(losses: list[float]) -> list[tuple[int, float]]:
    """(step, exponentially averaged loss), without the steps that were skipped."""
    points, average, weight = [], 0.0, 0.0
    for step, loss in enumerate(losses, 1):
        if math.isfinite(loss):
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            weight = _SMOOTHING * weight + (1 - _SMOOTHING)
            points.append((step, average / weight))
    return points


def draw_curve(losses: list[float], path: Path, kept: Sequence[int] = ()) -> Path:
    """A PNG of the loss: single steps as points, their average as a line, kept checkpoints marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="white")
    points = [(step, loss) for step, loss in enumerate(losses, 1) if math.isfinite(loss)]
    average = smoothed(losses)
    if points:
        shown = points[:: math.ceil(len(points) / _MOST_DOTS)]
        steps, values = zip(*shown, strict=True)
        axes.scatter(steps, values, s=5, color=_DOTS, linewidths=0, label="one step")
        axes.plot(*zip(*average, strict=True), color=_INK, linewidth=2, label="average of the last 50 or so")
        # A few steps at extreme noise would press everything else to the floor.
        ordered = sorted(loss for _, loss in points)
        axes.set_ylim(0, 1.15 * max(ordered[int(0.99 * (len(ordered) - 1))], max(loss for _, loss in average)))
    for number, step in enumerate(kept):
        label = "kept checkpoint" if number == 0 else None
        axes.axvline(step, color=_MARK, linewidth=1, linestyle="--", alpha=0.7, label=label)
    axes.set_xlim(0, max(len(losses), 1) + 0.5)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (mean squared error of the velocity)")
    axes.set_title(f"Training loss over {len(losses)} steps", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if points:
        axes.legend(frameon=False, loc="upper right")
    figure.savefig(path)
    return path


def peak_memory(device: torch.device) -> int:
    """The most memory in use at once so far: the GPU's where there is one, else this process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _thinned(losses: list[float]) -> list[tuple[int, float]]:
    points = smoothed(losses)
    every = max(1, math.ceil(len(points) / _MOST_POINTS))
    return points[every - 1 :: every]
