"""What is reported of a run afterwards: figures for the config file, and the curve of its loss as an SVG."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tintype.files.disk import write_file
from tintype.training.loop import Trained

_MOST_POINTS = 200  # of the loss curve in the config file
_SMOOTHING = 0.98
_MOST_DOTS = 2000
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 880, 45, 395
_SVG = Path(__file__).with_suffix(".svg")  # with places for what is drawn


def figures(trained: Trained, device: torch.device) -> dict[str, Any]:
    """Reports speed, memory, and the loss curve thinned to a few points of [step, smoothed loss]."""
    return {
        "steps": len(trained.losses),
        "skipped_steps": trained.skipped,
        "resumed_from_step": trained.resumed_from,
        "seconds": round(trained.seconds, 2),
        "steps_per_second": round(trained.steps_per_second, 3),
        "threads": trained.threads,
        **trained.order,
        "peak_memory_bytes": peak_memory(device),
        "loss_curve": [[step, round(loss, 5)] for step, loss in _thinned(trained.losses)],
    }


def smoothed(losses: list[float]) -> list[tuple[int, float]]:
    """Gives (step, exponentially averaged loss), without the steps that were skipped."""
    points, average, weight = [], 0.0, 0.0
    for step, loss in enumerate(losses, 1):
        if math.isfinite(loss):
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            weight = _SMOOTHING * weight + (1 - _SMOOTHING)
            points.append((step, average / weight))
    return points


def write_curve(losses: list[float], path: Path, kept: Sequence[int] = ()) -> Path:
    """Writes an SVG of the loss: single steps as dots, their average as a line, kept checkpoints marked."""
    dots = [(step, loss) for step, loss in enumerate(losses, 1) if math.isfinite(loss)]
    average = smoothed(losses)
    # A few steps at extreme noise would press everything else to the floor.
    usual = sorted(loss for _, loss in dots)[: math.ceil(0.99 * len(dots))]
    highest = 1.15 * max([*usual[-1:], *(loss for _, loss in average)], default=0.0) or 1.0
    across, up = (_RIGHT - _LEFT) / (max(len(losses), 1) + 0.5), (_BOTTOM - _TOP) / highest

    def at(step: float, loss: float) -> str:
        return f"{_LEFT + across * step:.1f} {_BOTTOM - up * loss:.1f}"

    steps, heights = _ticks(len(losses) or 1), _ticks(highest)
    shown = [dot for dot in dots[:: math.ceil(len(dots) / _MOST_DOTS) or 1] if dot[1] <= highest]
    labels = [f'<text x="{_LEFT + across * step:.1f}" y="{_BOTTOM + 18}">{step:g}</text>' for step in steps]
    labels += [f'<text x="{_LEFT - 24}" y="{_BOTTOM - up * loss + 4:.1f}">{loss:g}</text>' for loss in heights]
    svg = _SVG.read_text(encoding="utf-8").format(
        count=len(losses),
        grid="".join(f"M{at(0, loss)}H{_RIGHT}" for loss in heights),
        kept="".join(f"M{at(step, 0)}V{_TOP}" for step in kept),
        dots="".join(f"M{at(*dot)}h0" for dot in shown),
        average="M" + "L".join(at(*point) for point in average) if average else "",
        labels="".join(labels),
    )
    return write_file(path, svg)


def _ticks(highest: float) -> list[float]:
    """Up to seven round numbers from 0 on."""
    size = 10.0 ** math.floor(math.log10(highest))
    apart = next(size * part for part in (0.2, 0.5, 1, 2) if highest <= 6 * size * part)
    return [round(apart * number, 9) for number in range(int(highest / apart) + 1)]


def peak_memory(device: torch.device) -> int:
    """Measures the most memory in use at once so far: the GPU's where there is one, else this process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _thinned(losses: list[float]) -> list[tuple[int, float]]:
    points = smoothed(losses)
    every = max(1, math.ceil(len(points) / _MOST_POINTS))
    return points[every - 1 :: every]
