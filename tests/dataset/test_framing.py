"""Windows around a face: never larger than the photo, never outside, named for what they show."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tintype.dataset.framing import LEAST_SIDE, Box, framing_of, windows_around


def face_at(x: int, y: int, side: int) -> Box:
    return Box(x - side // 2, y - side // 2, x + side // 2, y + side // 2)


@given(st.integers(100, 4000), st.integers(100, 4000), st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 1))
def test_windows_lie_inside_the_photo_keep_its_shape_and_hold_the_face(
    width: int, height: int, x: float, y: float, share: float
) -> None:
    side = max(1, int(min(width, height) * share))
    left, top = int(x * (width - side)), int(y * (height - side))
    face = Box(left, top, left + side, top + side)
    windows = windows_around(face, (width, height))
    assert windows
    for found in windows:
        box = found.box
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.top < box.bottom <= height
        assert min(box.size) >= min(LEAST_SIDE, width, height) - 1
        assert abs(box.width / width - box.height / height) < 0.02
        assert box.left <= face.left + 1
        assert box.right >= face.right - 1
        assert box.top <= face.top + 1
        assert box.bottom >= face.bottom - 1


def test_a_large_photo_of_a_whole_person_gives_every_framing_widest_first() -> None:
    windows = windows_around(face_at(2000, 700, 340), (4000, 6000))
    assert [found.framing for found in windows] == ["full", "bust", "head"]
    areas = [found.box.width * found.box.height for found in windows]
    assert areas == sorted(areas, reverse=True)


def test_a_small_photo_gives_what_it_has_and_nothing_is_cut_below_the_smallest_area() -> None:
    windows = windows_around(face_at(300, 250, 120), (600, 600))
    assert [found.box for found in windows] == [Box(0, 0, 600, 600)]


def test_a_holiday_photo_is_cut_to_the_person() -> None:
    widest = windows_around(face_at(3000, 2000, 90), (6000, 4000))[0]
    assert widest.framing == "full"
    assert widest.box.height < 4000 / 3


def test_windows_that_would_be_nearly_the_same_are_not_both_kept() -> None:
    face = face_at(1000, 700, 700)  # the face fills most of it: head and bust show the same
    assert len(windows_around(face, (2000, 2000))) == 1


@pytest.mark.parametrize(("below", "framing"), [(0.5, "head"), (2, "bust"), (5, "half"), (8, "full")])
def test_a_framing_is_named_for_how_far_it_reaches_below_the_chin(below: float, framing: str) -> None:
    face = Box(100, 100, 200, 200)
    assert framing_of(face, Box(0, 0, 300, 200 + int(below * 100))) == framing


def test_boxes_are_scaled_cut_and_compared() -> None:
    assert Box(10, 20, 30, 40).scaled(2, 0.5) == Box(20, 10, 60, 20)
    assert Box(10, 10, 50, 50).within(Box(20, 0, 40, 30)) == Box(0, 10, 20, 30)
