"""What is wrong with a picture is seen, and what is right with it is not complained of."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.dataset.pictures import FACE, person, scene

from tintype.dataset.framing import Box
from tintype.dataset.quality import look_at, sharpness

BOX = Box(*FACE)


def test_a_good_portrait_has_no_findings() -> None:
    assert look_at(person(), BOX).findings() == []


@pytest.mark.parametrize("radius", [3, 6])
def test_a_blurred_face_is_said_and_a_blurred_background_is_not(radius: int) -> None:
    blurred = person().filter(ImageFilter.GaussianBlur(radius))
    assert look_at(blurred, BOX).findings() == ["the face is blurred"]
    blurred.paste(person().crop(FACE), FACE[:2])
    assert look_at(blurred, BOX).findings() == []


def test_sharpness_does_not_depend_on_contrast() -> None:
    grey = np.asarray(person().convert("L"))
    faint = (grey // 3 + 80).astype(np.uint8)
    assert abs(sharpness(grey) - sharpness(faint)) < 0.08


@pytest.mark.parametrize(("slope", "shift", "said"), [(0.15, 0, "under-exposed"), (0.08, 240, "over-exposed")])
@pytest.mark.parametrize("face", [BOX, None])
def test_exposure_is_judged_by_the_face_where_there_is_one(
    slope: float, shift: int, said: str, face: Box | None
) -> None:
    image = person().point(lambda level: level * slope + shift)
    found = look_at(image, face).findings()
    assert any(said in finding for finding in found)
    assert ("the face is" in found[0]) == (face is not None)


def test_a_portrait_on_white_is_not_over_exposed() -> None:
    image = Image.new("RGB", (1200, 800), "white")
    image.paste(person(), (300, 100))
    assert look_at(image, Box(476, 166, 572, 262)).findings() == []


def test_one_colour_is_nothing_to_learn_from() -> None:
    assert look_at(Image.new("RGB", (600, 600), "teal"), None).findings() == ["hardly anything is to be seen in it"]


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (47, 49)])
def test_any_size_can_be_looked_at(size: tuple[int, int]) -> None:
    assert look_at(scene(size=size), None).signature.shape == (32, 32, 3)
