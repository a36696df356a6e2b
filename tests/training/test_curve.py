"""What a run tells about itself."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tintype.lora.lora import Lora
from tintype.training.curve import figures, smoothed, write_curve
from tintype.training.loop import Trained


def test_figures_are_plain_json_even_after_skipped_steps() -> None:
    losses = [1 / (step + 1) for step in range(5000)]
    losses[7] = math.nan
    told = figures(Trained(Lora({}), losses, skipped=1, seconds=50.0, resumed_from=2500), torch.device("cpu"))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["steps_per_second"] == 100
    assert len(told["loss_curve"]) <= 200
    assert told["loss_curve"][-1][1] < told["loss_curve"][0][1]


def test_smoothing_starts_at_the_first_loss_not_at_zero() -> None:
    assert smoothed([3.0, 3.0, 3.0])[0] == (1, 3.0)


def drawn(losses: list[float], folder: Path, kept: list[int]) -> dict[str, str]:
    """The paths of a curve by what they show."""
    root = ElementTree.parse(write_curve(losses, folder / "loss.svg", kept=kept)).getroot()
    assert root.attrib["viewBox"] == "0 0 900 450"
    return {path.attrib["class"]: path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path")}


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, math.nan, 0.5], [math.nan], [0.0, 0.0], [3e-7] * 5, [4e5] * 1999])
def test_the_curve_shows_every_step_that_was_taken_within_its_frame(losses: list[float], tmp_path: Path) -> None:
    paths = drawn(losses, tmp_path, kept=[1])
    taken = sum(math.isfinite(loss) for loss in losses)
    assert paths["dots"].count("h0") == paths["average"].count(" ") == taken
    assert paths["kept"].count("M") == 1
    assert paths["grid"].count("M") in range(2, 8)
    for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", "".join(paths.values())):
        assert 80 <= float(x) <= 880
        assert 45 <= float(y) <= 395


def test_one_step_far_out_does_not_press_the_others_to_the_floor(tmp_path: Path) -> None:
    paths = drawn([0.5] * 600 + [50.0] + [0.5] * 600, tmp_path, kept=[])
    assert paths["dots"].count("h0") == 1200
    assert min(float(y) for _, y in re.findall(r"([\d.-]+) ([\d.-]+)", paths["dots"])) < 330
