"""The style score has to earn trust before it judges a LoRA."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from miniature.world import Person, draw, drawings_in_style
from miniature.world.style import STYLES, restyled, style_score
from PIL import Image

every_style = pytest.mark.parametrize("style", sorted(STYLES))


def fresh_drawings(count: int = 12) -> list[Image.Image]:
    rng = random.Random("not those whose statistics are known")
    return [draw(Person.sample(rng)) for _ in range(count)]


def mean_score(images: list[Image.Image], style: str) -> float:
    return sum(style_score(image, style) for image in images) / len(images)


@every_style
def test_drawings_in_the_style_score_high_and_plain_ones_low(style: str) -> None:
    drawings = fresh_drawings()
    assert mean_score([restyled(drawing, style) for drawing in drawings], style) >= 0.85
    assert mean_score(drawings, style) <= 0.2


@every_style
def test_another_style_grey_and_noise_score_low(style: str) -> None:
    generator = np.random.default_rng(0)
    noise = [Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]
    grey = [Image.new("RGB", (64, 64), (level,) * 3) for level in (0, 128, 255)]
    others = [[restyled(drawing, other) for drawing in fresh_drawings(8)] for other in STYLES if other != style]
    for controls in (noise, grey, *others):
        assert mean_score(controls, style) <= 0.35


@every_style
def test_the_score_grows_with_every_step_from_plain_to_styled(style: str) -> None:
    drawings = fresh_drawings(8)
    scores = [
        mean_score([Image.blend(drawing, restyled(drawing, style), share) for drawing in drawings], style)
        for share in (0.0, 0.5, 1.0)
    ]
    assert scores == sorted(scores)
    assert scores[2] - scores[1] > 0.1


def test_drawings_in_a_style_can_be_repeated_and_are_of_different_people() -> None:
    first, again = (drawings_in_style("blueprint", 4, size=64) for _ in range(2))
    assert [image.tobytes() for image, _ in first] == [image.tobytes() for image, _ in again]
    assert len({caption for _, caption in first}) == 4
    assert all(caption.startswith("[trigger] style, ") for _, caption in first)


def test_the_command_writes_an_archive_of_a_style(tmp_path: Path) -> None:
    out = tmp_path / "drawings.zip"
    command = [sys.executable, "-m", "miniature.world", "--style", "stencil", "--count", "2"]
    subprocess.run([*command, "--size", "64", "--captions", "--out", str(out)], check=True)
    with zipfile.ZipFile(out) as written:
        assert sorted(written.namelist()) == ["photo_00.png", "photo_00.txt", "photo_01.jpg", "photo_01.txt"]
