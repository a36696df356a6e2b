"""Where the subject is, what of the photo is trained, and which pixels count."""

from __future__ import annotations

from PIL import Image
from tests.support.images import person

from tintype.dataset.framing import Box, Window
from tintype.dataset.subject import Subject, find_face, mask_of, whole, windows_of


def test_a_face_is_the_subject_and_the_photo_is_cut_around_it() -> None:
    canvas = Image.new("RGB", (3000, 2000), (120, 130, 140))
    canvas.paste(person().resize((1024, 1024)), (1700, 600))
    subject = find_face(canvas)
    assert (subject.kind, subject.faces) == ("face", 1)
    windows = windows_of(subject, canvas.size, crop=True)
    assert len(windows) > 1
    assert all(window.box.left <= subject.box.left and window.box.right >= subject.box.right for window in windows)


def test_without_a_wish_to_crop_the_whole_photo_is_kept_and_its_framing_known() -> None:
    subject = Subject(Box(400, 200, 600, 400), "face")
    assert windows_of(subject, (1000, 700), crop=False) == (Window(Box(0, 0, 1000, 700), "bust"),)


def test_no_face_means_the_whole_picture() -> None:
    image = Image.linear_gradient("L").resize((700, 500)).convert("RGB")
    subject = find_face(image)
    assert (subject.kind, subject.faces) == ("whole", 0)
    assert windows_of(subject, image.size, crop=True) == (Window(Box(0, 0, 700, 500), None),)


def test_a_subject_given_by_the_family_is_not_cut() -> None:
    image = Image.new("RGB", (500, 500))
    assert windows_of(whole(image, "given"), image.size, crop=True)[0].box == Box(0, 0, 500, 500)


def test_a_subject_found_in_a_reduced_picture_is_scaled_with_all_its_company() -> None:
    subject = Subject(Box(10, 10, 20, 20), "face", (Box(30, 10, 40, 20),)).scaled(2, 3)
    assert subject == Subject(Box(20, 30, 40, 60), "face", (Box(60, 30, 80, 60),))


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
