"""A real face is found upright, mirrored, scaled, aslant and among others; things are not taken for faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.support.images import FACE, example_picture, person, scene

from tintype.dataset import faces
from tintype.dataset.faces import face_of_row, find_faces
from tintype.dataset.framing import Box


def middle(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def assert_near(found: Box, x: float, y: float, side: float) -> None:
    assert np.hypot(middle(found)[0] - x, middle(found)[1] - y) < 0.25 * side
    assert 0.7 * side < found.width < 1.4 * side


X, Y, SIDE = (FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2, FACE[2] - FACE[0]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.6, 1, 4])
def test_a_face_is_found_at_any_scale_and_mirrored(scale: float, mirrored: bool) -> None:
    image = person().resize((int(512 * scale), int(512 * scale)), Image.Resampling.LANCZOS)
    image = ImageOps.mirror(image) if mirrored else image
    found = find_faces(image)
    assert len(found) == 1
    assert_near(found[0], ((512 - X) if mirrored else X) * scale, Y * scale, SIDE * scale)


@pytest.mark.parametrize("degrees", [-30, -20, -10, 10, 20, 30])
def test_a_face_held_aslant_is_found(degrees: int) -> None:
    image = person().rotate(degrees, Image.Resampling.BICUBIC)
    angle = np.radians(degrees)
    x, y = X - 256, Y - 256
    found = find_faces(image)
    assert found
    assert_near(
        found[0], 256 + x * np.cos(angle) + y * np.sin(angle), 256 - x * np.sin(angle) + y * np.cos(angle), SIDE
    )


def test_in_a_crowd_the_largest_and_most_central_face_comes_first_and_all_are_seen() -> None:
    image = Image.new("RGB", (1800, 1200), (90, 110, 130))
    places = [(300, 60, 700), (700, 620, 120), (330, 1350, 750)]  # side, left, top
    for side, left, top in places:
        image.paste(person().resize((side, side)), (left, top))
    found = find_faces(image)
    assert len(found) == 3
    side, left, top = places[1]
    assert_near(found[0], left + X * side / 512, top + Y * side / 512, SIDE * side / 512)


def test_of_two_faces_of_one_size_the_one_nearer_the_middle_comes_first() -> None:
    image = Image.new("RGB", (1600, 600), (90, 110, 130))
    image.paste(person(), (0, 40))
    image.paste(person(), (600, 40))
    assert middle(find_faces(image)[0])[0] > 600


@pytest.mark.parametrize("name", ["cell.png", "chelsea.png", "coffee.png", "brick.png", "motorcycle_left.png"])
def test_things_are_no_faces(name: str) -> None:
    assert find_faces(example_picture(name)) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (40, 40)])
def test_tiny_and_odd_pictures_have_no_face_and_no_crash(size: tuple[int, int]) -> None:
    assert find_faces(scene(size=size)) == []


def test_a_row_of_yunet_becomes_a_square_around_the_same_middle() -> None:
    box = face_of_row([100, 80, 60, 80, *[0.0] * 10, 0.95], 2.0, (1000, 1000))
    assert abs(box.width - box.height) <= 1
    assert abs(middle(box)[0] - 260) <= 1
    assert box.top > 160


def test_weights_of_another_content_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tintype").mkdir()
    (tmp_path / "tintype" / faces.YUNET_FILE).write_bytes(b"something else")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    faces.yunet_weights.cache_clear()
    try:
        assert faces.yunet_weights() is None
        assert "cascade" in faces.finder_name()
    finally:
        faces.yunet_weights.cache_clear()
