"""Copies of one shot are found however they were saved; photos that differ in the face are not copies."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageOps
from tests.support.images import encoded, person, scene

from tintype.dataset.prepare import measure_quality
from tintype.dataset.similar import Likeness, compare


def compared(*images: Image.Image) -> Likeness:
    return compare([image.size for image in images], [measure_quality(image, None) for image in images])


def again(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, "JPEG", quality=quality))).convert("RGB")


@pytest.mark.parametrize("make", [person, scene])
def test_a_copy_that_was_saved_again_or_made_smaller_is_the_same_shot(make: Any) -> None:
    image = make()
    copies = [again(image, 50), image.resize((256, 256), Image.Resampling.LANCZOS), image]
    likeness = compared(*copies, image.resize((1024, 1024)))
    assert likeness.copies == {0: 3, 1: 3, 2: 3}, "the largest stays"


def test_another_face_crop_or_mirror_image_is_another_photo() -> None:
    image = person()
    smiling = image.copy()
    ImageDraw.Draw(smiling).ellipse((205, 130, 245, 150), fill=(120, 30, 30))
    others = [smiling, ImageOps.mirror(image), image.crop((0, 0, 400, 400)), scene(1), scene(2)]
    assert compared(image, *others).copies == {}


def test_photos_of_a_burst_stay_and_are_named() -> None:
    image = person()
    moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, 2), Image.Resampling.BICUBIC)
    likeness = compared(image, moved)
    assert likeness.copies == {}
    assert len(likeness.alike) == 1


def test_nothing_is_a_copy_of_nothing() -> None:
    assert compare([], []) == Likeness()
    assert compared(scene()) == Likeness()
