"""What a set of photos does not show is said, from measurements, and what was not measured is called that."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from tintype.dataset.coverage import Aspect, aspects_of, look_around
from tintype.dataset.framing import Box
from tintype.dataset.subject import Subject

FACE = Box(200, 90, 290, 180)


def photo(wall: str, shirt: str, seed: int = 0) -> tuple[Image.Image, Subject]:
    """A person before a wall, in a light that differs from photo to photo."""
    rng = random.Random(seed)
    image = Image.new("RGB", (480, 480), wall)
    pen = ImageDraw.Draw(image)
    dx = rng.randrange(-40, 40)
    pen.rectangle((140 + dx, 215, 350 + dx, 480), fill=shirt)
    pen.ellipse((190 + dx, 70, 300 + dx, 200), fill="#c68642")
    noise = np.random.default_rng(seed).normal(0, 6, (480, 480, 3))
    noisy = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    lit = ImageEnhance.Brightness(noisy).enhance(rng.uniform(0.85, 1.1))
    return lit, Subject(Box(FACE.left + dx, FACE.top, FACE.right + dx, FACE.bottom), "face")


def aspect(found: Sequence[Aspect], name: str) -> Aspect:
    return next(each for each in found if each.aspect == name)


def of(photos: Sequence[tuple[Image.Image, Subject]], alike: Sequence[tuple[str, str]] = ()) -> list[Aspect]:
    return aspects_of([f"{n}.jpg" for n in range(len(photos))], [look_around(*each) for each in photos], alike)


def test_one_room_and_one_outfit_are_noticed_by_how_many_photos_show_them() -> None:
    walls = ["#4a6b8a"] * 7 + ["#d8c8a0", "#7a3030", "#305030"]
    shirts = ["#903030", "#e8e8e8", "#203020", "#d0b020", "#302060"] * 2
    found = of([photo(wall, shirt, seed) for seed, (wall, shirt) in enumerate(zip(walls, shirts, strict=True))])
    room = aspect(found, "background")
    assert room.state == "advice"
    assert room.text.startswith("7 of 10 photos have much the same background.")
    assert room.photos == [f"{n}.jpg" for n in range(7)]
    clothes = aspect(found, "clothes")
    assert clothes.state == "covered", clothes.text
    assert "At most 2 of 10" in clothes.text


def test_clothes_that_never_change_are_noticed_in_any_room() -> None:
    walls = ["#4a6b8a", "#d8c8a0", "#7a3030", "#305030", "#eeeeee"]
    found = of([photo(wall, "#203080", seed) for seed, wall in enumerate(walls)])
    assert aspect(found, "clothes").text.startswith("5 of 5 photos show much the same clothes.")
    assert aspect(found, "background").state == "covered"


def test_how_near_the_camera_is() -> None:
    near, far = Subject(Box(100, 60, 300, 260), "face"), Subject(Box(230, 20, 250, 40), "face")
    image = Image.new("RGB", (400, 400), "grey")
    assert "end above the waist" in aspect(of([(image, near)] * 5), "distance").text
    assert aspect(of([(image, far)] * 5), "distance").state == "advice"
    assert aspect(of([(image, far), (image, near)] * 3), "distance").state == "covered"


def test_what_looks_nearly_alike_is_told_in_groups() -> None:
    found = aspect(of([], [("a", "b"), ("c", "d"), ("b", "e")]), "copies")
    assert found.text.startswith("2 look nearly alike: c, d; 3 look nearly alike: a, b, e.")
    assert found.photos == ["a", "b", "c", "d", "e"]


def test_what_was_not_measured_is_called_that() -> None:
    image = Image.new("RGB", (300, 300), "white")
    nobody = of([(image, Subject(Box(0, 0, 300, 300), "whole"))] * 5)
    for name in ("background", "clothes", "distance", "expression"):
        assert aspect(nobody, name).state == "not measured"
    assert aspect(of([photo("#4a6b8a", "#903030")] * 3), "background").state == "not measured", (
        "of three, nothing follows"
    )
    close = Subject(Box(50, 50, 250, 250), "face")
    assert look_around(image, close).clothes is None, "the photo ends at the chin"


def test_where_people_fill_the_image_the_background_is_beside_them() -> None:
    given = [Image.new("RGB", (64, 64), wall) for wall in ("red", "red", "red", "blue")]
    found = of([(image, Subject(Box(0, 0, 64, 64), "given")) for image in given])
    assert aspect(found, "background").text.startswith("3 of 4 photos have much the same background.")
    assert aspect(found, "clothes").state == "not measured"
