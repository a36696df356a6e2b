"""Which pixels count."""

from __future__ import annotations

from PIL import Image

from tintype.dataset.masks import mask_of
from tintype.dataset.photo import Photo
from tintype.dataset.subject import Box, Portrait, Subject, whole


def test_transparency_is_the_best_mask() -> None:
    alpha = Image.new("L", (40, 40), 9)
    made = mask_of(Portrait(Photo("a", Image.new("RGB", (40, 40)), alpha), Subject(Box(5, 5, 20, 20), "face")))
    assert made == (alpha, "alpha")


def test_a_face_grows_into_an_ellipse_that_leaves_the_corners_out() -> None:
    image = Image.new("RGB", (400, 400))
    made = mask_of(Portrait(Photo("a", image), Subject(Box(160, 120, 240, 200), "face")))
    assert made is not None
    mask, source = made
    assert source == "face"
    assert mask.getpixel((200, 160)) == 255
    assert mask.getpixel((200, 260)) == 255, "shoulders belong to the person"
    assert mask.getpixel((5, 5)) == 0


def test_a_picture_without_a_subject_has_no_mask() -> None:
    image = Image.new("RGB", (40, 40))
    assert mask_of(Portrait(Photo("a", image), whole(image))) is None
    assert mask_of(Portrait(Photo("a", image), whole(image, "given"))) is not None
