"""Which pixels count."""

from __future__ import annotations

from PIL import Image

from tintype.dataset.framing import Box
from tintype.dataset.masks import mask_of
from tintype.dataset.subject import Subject, whole

FRAME = Box(0, 0, 400, 400)
FACE = Subject(Box(160, 120, 240, 200), "face")


def test_transparency_is_the_best_mask() -> None:
    alpha = Image.new("L", (400, 400), 9)
    assert mask_of(FACE, FRAME, (400, 400), alpha) == (alpha, "alpha")


def test_transparency_that_shows_nothing_is_no_mask() -> None:
    made = mask_of(FACE, FRAME, (400, 400), Image.new("L", (400, 400), 0))
    assert made is not None
    assert made[1] == "face"


def test_a_face_grows_into_an_ellipse_that_leaves_the_corners_out() -> None:
    made = mask_of(FACE, FRAME, (400, 400))
    assert made is not None
    mask, source = made
    assert source == "face"
    assert mask.getpixel((200, 160)) == 255
    assert mask.getpixel((200, 260)) == 255, "shoulders belong to the person"
    assert mask.getpixel((5, 5)) == 0


def test_the_mask_of_a_cut_lies_where_the_face_lies_in_the_cut() -> None:
    made = mask_of(FACE, Box(100, 100, 300, 300), (100, 100))
    assert made is not None
    mask = made[0]
    assert mask.size == (100, 100)
    assert mask.getpixel((50, 30)) == 255
    assert mask.getpixel((1, 98)) == 0


def test_a_picture_without_a_subject_has_no_mask() -> None:
    image = Image.new("RGB", (40, 40))
    assert mask_of(whole(image), Box(0, 0, 40, 40), (40, 40)) is None
    assert mask_of(whole(image, "given"), Box(0, 0, 40, 40), (40, 40)) is not None
