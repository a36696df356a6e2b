"""What a run tells about itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from PIL import Image

from tintype.training.curve import draw_curve, figures, smoothed
from tintype.training.loop import Trained


def test_figures_are_plain_json_even_after_skipped_steps() -> None:
    losses = [1 / (step + 1) for step in range(5000)]
    losses[7] = math.nan
    told = figures(Trained(torch.zeros(1), losses, skipped=1, seconds=50.0, resumed_from=2500), torch.device("cpu"))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["steps_per_second"] == 100
    assert len(told["loss_curve"]) <= 200
    assert told["loss_curve"][-1][1] < told["loss_curve"][0][1]


def test_smoothing_starts_at_the_first_loss_not_at_zero() -> None:
    assert smoothed([3.0, 3.0, 3.0])[0] == (1, 3.0)


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    for losses in ([1.0], [1.0, math.nan, 0.5], [math.nan]):
        with Image.open(draw_curve(losses, tmp_path / "loss.png", kept=[1])) as drawn:
            assert drawn.size == (900, 450)
