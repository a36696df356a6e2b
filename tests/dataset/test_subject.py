"""Cutting to the subject: never larger, never outside, never so tight that the head is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from tintype.dataset.photo import Photo
from tintype.dataset.subject import Box, Portrait, Subject, crop_around, crop_to_subject, find_face, locate, whole


def drawn_face(size: tuple[int, int], x: int, y: int, r: int) -> Image.Image:
    """A face as the cascade knows them: bright oval, dark eyes and brows, shade under nose and mouth."""
    image = Image.fromarray(np.random.default_rng(1).integers(60, 80, (*size[::-1], 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    pen.ellipse((x - r, y - 1.3 * r, x + r, y + 1.3 * r), fill=(215, 180, 160))
    pen.pieslice((x - r, y - 1.35 * r, x + r, y + 0.4 * r), 180, 360, fill=(60, 40, 30))
    pen.rectangle((x - 0.85 * r, y - 0.62 * r, x + 0.85 * r, y + 0.5 * r), fill=(215, 180, 160))
    for side in (-1, 1):
        pen.rectangle(
            (x + side * 0.42 * r - 0.26 * r, y - 0.5 * r, x + side * 0.42 * r + 0.26 * r, y - 0.42 * r),
            fill=(50, 35, 30),
        )
        pen.ellipse(
            (x + side * 0.42 * r - 0.24 * r, y - 0.34 * r, x + side * 0.42 * r + 0.24 * r, y - 0.08 * r),
            fill=(70, 50, 45),
        )
    pen.polygon([(x - 0.12 * r, y + 0.3 * r), (x + 0.12 * r, y + 0.3 * r), (x, y - 0.1 * r)], fill=(190, 150, 130))
    pen.ellipse((x - 0.4 * r, y + 0.55 * r, x + 0.4 * r, y + 0.75 * r), fill=(140, 60, 60))
    return image.filter(ImageFilter.GaussianBlur(r / 18))


def test_a_face_is_found_where_it_is_and_the_photo_is_cut_around_it() -> None:
    image = drawn_face((1600, 1200), 1100, 500, 110)
    portrait = locate(Photo("a.jpg", image), find_face)
    assert portrait.subject.kind == "face"
    box = portrait.subject.box
    assert box.left < 1100 < box.right
    assert box.top < 500 < box.bottom
    cut = crop_to_subject(portrait)
    assert cut.crop is not None
    assert cut.photo.image.width < 1600
    inner = cut.subject.box
    assert (inner.width, inner.height) == (box.width, box.height)


def test_no_face_means_the_whole_picture() -> None:
    image = Image.linear_gradient("L").resize((700, 500)).convert("RGB")
    portrait = crop_to_subject(locate(Photo("a.jpg", image), find_face))
    assert portrait.subject.kind == "whole"
    assert portrait.photo.image.size == (700, 500)


def test_a_subject_given_by_the_family_is_not_cut() -> None:
    image = Image.new("RGB", (500, 500))
    portrait = crop_to_subject(locate(Photo("a.jpg", image), lambda picture: whole(picture, "given")))
    assert portrait.crop is None


def test_transparency_is_cut_with_the_picture() -> None:
    image, alpha = Image.new("RGB", (2000, 2000)), Image.new("L", (2000, 2000), 7)
    subject = Subject(Box(900, 900, 1100, 1100), "face", 1)
    cut = crop_to_subject(Portrait(Photo("a.png", image, alpha), subject))
    assert cut.photo.alpha is not None
    assert cut.photo.alpha.size == cut.photo.image.size


@given(st.integers(100, 4000), st.integers(100, 4000), st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 1))
def test_a_crop_lies_inside_the_picture_keeps_its_shape_and_holds_the_face(
    width: int, height: int, x: float, y: float, share: float
) -> None:
    side = max(1, int(min(width, height) * share))
    face = Box(int(x * (width - side)), int(y * (height - side)), 0, 0)
    face = Box(face.left, face.top, face.left + side, face.top + side)
    crop = crop_around(face, (width, height))
    assert 0 <= crop.left <= crop.right <= width
    assert 0 <= crop.top <= crop.bottom <= height
    assert min(crop.width, crop.height) >= min(512, width, height) - 1
    assert abs(crop.width / width - crop.height / height) < 0.02
    assert crop.left <= face.left + 1
    assert crop.right >= face.right - 1
    assert crop.top <= face.top + 1
    assert crop.bottom >= face.bottom - 1
