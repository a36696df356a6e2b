"""Photos are developed in parallel, in order, within bounds, and nothing of one shows in another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.dataset.pictures import encoded, person, scene

from tintype.dataset.archive import Member
from tintype.dataset.buckets import MULTI_RESOLUTION
from tintype.dataset.prepare import DatasetOptions, ImagePreparer, PreparedImage, RejectedImage, _Room
from tintype.dataset.subject import find_face, whole
from tintype.errors import ImageTooLarge

PIXELS = 120_000_000


def members(folder: Path, contents: list[bytes]) -> Iterator[Member]:
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(contents):
        path = folder / str(number)
        path.write_bytes(content)
        yield Member(f"{number}.jpg", path)


def developed(tmp_path: Path, contents: list[bytes], most_pixels: int = PIXELS, **wishes: object) -> list[object]:
    wished = DatasetOptions(**{"trigger": "TOK", "area_sides": MULTI_RESOLUTION, **wishes})  # type: ignore[arg-type]
    find = find_face if wished.subject_crop else whole
    darkroom = ImagePreparer(tmp_path / "cuts", wished, find, most_pixels)
    return list(darkroom.develop(members(tmp_path / "in", contents)))


def test_results_come_in_order_and_originals_are_deleted(tmp_path: Path) -> None:
    sizes = [(300 + 50 * n, 400) for n in range(12)]
    found = developed(tmp_path, [encoded(scene(n, size)) for n, size in enumerate(sizes)])
    assert [photo.size for photo in found if isinstance(photo, PreparedImage)] == sizes
    assert list((tmp_path / "in").iterdir()) == []


def test_a_spoilt_picture_spoils_no_other(tmp_path: Path) -> None:
    found = developed(tmp_path, [encoded(scene(0)), b"rubbish", encoded(scene(1))])
    assert [type(photo) for photo in found] == [PreparedImage, RejectedImage, PreparedImage]


def test_a_picture_of_too_many_pixels_ends_it_all(tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge, match=r"1\.jpg"):
        developed(tmp_path, [encoded(scene(0, (90, 90))), encoded(scene(1, (200, 200)))], most_pixels=10_000)


def test_a_large_portrait_gives_several_cuts_each_with_its_mask(tmp_path: Path) -> None:
    photo = developed(tmp_path, [encoded(person().resize((2560, 2560)), "JPEG")], subject_crop=True, create_masks=True)[
        0
    ]
    assert isinstance(photo, PreparedImage)
    assert photo.subject.kind == "face"
    assert len(photo.cuts) == 2
    for cut in photo.cuts:
        largest = max(cut.buckets, key=lambda bucket: bucket.width * bucket.height)
        with Image.open(cut.path) as image, Image.open(cut.mask or "") as mask:
            assert image.size == mask.size
            assert image.mode == "RGB"
            assert largest.width <= image.width <= largest.width * 1.75
    photo.discard()
    assert list((tmp_path / "cuts").iterdir()) == []


def test_the_face_is_where_it_is_in_the_full_photo(tmp_path: Path) -> None:
    photo = developed(tmp_path, [encoded(person().resize((2560, 2560)), "JPEG")], subject_crop=True)[0]
    assert isinstance(photo, PreparedImage)
    left, top, right, bottom = photo.subject.box.edges
    assert left < 1120 < right
    assert top < 570 < bottom


def test_a_room_lets_in_what_fits_and_one_that_never_fits_alone() -> None:
    room = _Room(100)
    room.enter(500)
    waiting = threading.Thread(target=room.enter, args=(10,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    room.leave(500)
    waiting.join(10)
    assert not waiting.is_alive()
