"""What a run tells about itself afterwards: figures for the config file, and the curve of its loss as a picture."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from tintype.training.loop import Trained

_MOST_POINTS = 200  # of the loss curve in the config file
_SMOOTHING = 0.98


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


def draw_curve(losses: list[float], path: Path) -> Path:
    """A PNG of the loss: single steps faint, their average strong."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=0.5, alpha=0.3, color="tab:blue")
    axes.plot(*zip(*smoothed(losses), strict=True), color="tab:blue")
    axes.set(xlabel="step", ylabel="loss", title="Training loss")
    axes.grid(alpha=0.3)
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
