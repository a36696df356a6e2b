"""Sizes at which a picture is trained."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tintype.dataset.buckets import MULTI_RESOLUTION, SINGLE_RESOLUTION, Bucket, buckets_of, fit

sides = st.integers(16, 6000)


def test_a_large_square_is_trained_at_every_area() -> None:
    assert [str(bucket) for bucket in buckets_of((3000, 3000), MULTI_RESOLUTION)] == ["512x512", "768x768", "1024x1024"]
    assert [str(bucket) for bucket in buckets_of((1024, 1024), SINGLE_RESOLUTION)] == ["1024x1024"]


def test_a_small_picture_is_trained_at_its_own_size_once() -> None:
    assert [str(bucket) for bucket in buckets_of((600, 600), MULTI_RESOLUTION)] == ["512x512", "592x592"]


@given(sides, sides)
def test_never_enlarged_never_odd_and_the_shape_is_kept(width: int, height: int) -> None:
    for bucket in buckets_of((width, height), MULTI_RESOLUTION):
        assert bucket.width % 16 == 0
        assert bucket.height % 16 == 0
        assert bucket.width <= width
        assert bucket.height <= height
        assert bucket.width * bucket.height <= bucket.area_side**2
        if 1 / 4 <= width / height <= 4 and min(bucket.width, bucket.height) >= 256:
            assert abs(bucket.width / bucket.height / (width / height) - 1) < 0.07


@given(sides, sides)
def test_a_wide_token_keeps_the_shape_as_well_as_it_can(width: int, height: int) -> None:
    for bucket in buckets_of((width, height), MULTI_RESOLUTION, step=128):
        assert bucket.width % 128 == bucket.height % 128 == 0
        assert bucket.width <= max(width, 128)
        assert bucket.height <= max(height, 128)


def test_a_shape_that_fits_the_tokens_is_kept_exactly() -> None:
    assert [str(bucket) for bucket in buckets_of((1536, 2048), (512, 1024), step=128)] == ["384x512", "768x1024"]


def test_fitting_cuts_the_middle_and_keeps_the_shape_of_things() -> None:
    image = Image.new("RGB", (400, 200), "white")
    image.paste((0, 0, 0), (150, 50, 250, 150))  # a square in the middle
    seen = fit(image, Bucket(96, 96, 96)).convert("L").point(lambda level: 255 * (level < 128)).getbbox()
    assert seen is not None
    left, top, right, bottom = seen
    assert abs((right - left) - (bottom - top)) <= 2
    assert abs((left + right) / 2 - 48) <= 1


def test_a_picture_of_the_very_size_is_left_alone() -> None:
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    assert fit(image, Bucket(64, 64, 64)) is image
