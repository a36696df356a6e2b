"""Photos are prepared in parallel, in order, within bounds, and nothing of one shows in another.

What is wrong with one is seen, and what is right with it is not complained of.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.support.images import FACE, encoded, person, scene

from tintype.dataset.archive import Member
from tintype.dataset.framing import Box
from tintype.dataset.prepare import (
    DatasetOptions,
    ImagePreparer,
    PreparedImage,
    RejectedImage,
    _PixelBudget,
    measure_quality,
    sharpness,
)
from tintype.dataset.sizes import buckets_of
from tintype.dataset.subject import find_face, whole
from tintype.errors import ImageTooLarge

BOX = Box(*FACE)
PIXELS = 120_000_000


def members(folder: Path, contents: list[bytes]) -> Iterator[Member]:
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(contents):
        path = folder / str(number)
        path.write_bytes(content)
        yield Member(f"{number}.jpg", path)


def prepared(
    tmp_path: Path, contents: list[bytes], most_pixels: int = PIXELS, options: DatasetOptions | None = None
) -> list[PreparedImage | RejectedImage]:
    options = options or DatasetOptions()
    find_subject = find_face if options.subject_crop else whole
    preparer = ImagePreparer(tmp_path / "crops", options, find_subject, most_pixels)
    return list(preparer.prepare(members(tmp_path / "in", contents)))


def test_results_come_in_order_and_originals_are_deleted(tmp_path: Path) -> None:
    sizes = [(300 + 50 * n, 400) for n in range(12)]
    found = prepared(tmp_path, [encoded(scene(n, size)) for n, size in enumerate(sizes)])
    assert [photo.size for photo in found if isinstance(photo, PreparedImage)] == sizes
    assert list((tmp_path / "in").iterdir()) == []


def test_a_broken_picture_harms_no_other(tmp_path: Path) -> None:
    found = prepared(tmp_path, [encoded(scene(0)), b"rubbish", encoded(scene(1))])
    assert [type(photo) for photo in found] == [PreparedImage, RejectedImage, PreparedImage]


def test_a_picture_of_too_many_pixels_ends_it_all(tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge, match=r"1\.jpg"):
        prepared(tmp_path, [encoded(scene(0, (90, 90))), encoded(scene(1, (200, 200)))], most_pixels=10_000)


def test_a_large_portrait_gives_several_cuts_each_with_its_mask(tmp_path: Path) -> None:
    photo = prepared(
        tmp_path,
        [encoded(person().resize((2560, 2560)), "JPEG")],
        options=DatasetOptions(subject_crop=True, create_masks=True),
    )[0]
    assert isinstance(photo, PreparedImage)
    assert photo.subject.kind == "face"
    assert len(photo.crops) == 2
    for crop in photo.crops:
        buckets = buckets_of(crop.window.box.size, (512, 768, 1024))
        largest = max(buckets, key=lambda bucket: bucket.width * bucket.height)
        with Image.open(crop.path) as image, Image.open(crop.mask or "") as mask:
            assert image.size == mask.size
            assert image.mode == "RGB"
            assert largest.width <= image.width <= largest.width * 1.75
    photo.discard()
    assert list((tmp_path / "crops").iterdir()) == []


def test_the_face_is_where_it_is_in_the_full_photo(tmp_path: Path) -> None:
    photo = prepared(
        tmp_path, [encoded(person().resize((2560, 2560)), "JPEG")], options=DatasetOptions(subject_crop=True)
    )[0]
    assert isinstance(photo, PreparedImage)
    left, top, right, bottom = photo.subject.box.edges
    assert left < 1120 < right
    assert top < 570 < bottom


def test_a_budget_admits_what_fits_and_one_that_never_fits_alone() -> None:
    budget = _PixelBudget(100)
    budget.reserve(500)
    waiting = threading.Thread(target=budget.reserve, args=(10,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    budget.release(500)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_good_portrait_has_no_findings() -> None:
    assert measure_quality(person(), BOX).findings() == []


@pytest.mark.parametrize("radius", [3, 6])
def test_a_blurred_face_is_said_and_a_blurred_background_is_not(radius: int) -> None:
    blurred = person().filter(ImageFilter.GaussianBlur(radius))
    assert measure_quality(blurred, BOX).findings() == ["the face is blurred"]
    blurred.paste(person().crop(FACE), FACE[:2])
    assert measure_quality(blurred, BOX).findings() == []


def test_sharpness_does_not_depend_on_contrast() -> None:
    grey = np.asarray(person().convert("L"))
    faint = (grey // 3 + 80).astype(np.uint8)
    assert abs(sharpness(grey) - sharpness(faint)) < 0.08


@pytest.mark.parametrize(("slope", "shift", "said"), [(0.15, 0, "under-exposed"), (0.08, 240, "over-exposed")])
@pytest.mark.parametrize("face", [BOX, None])
def test_exposure_is_judged_by_the_face_where_there_is_one(
    slope: float, shift: int, said: str, face: Box | None
) -> None:
    image = person().point(lambda level: level * slope + shift)
    found = measure_quality(image, face).findings()
    assert any(said in finding for finding in found)
    assert ("the face is" in found[0]) == (face is not None)


def test_a_portrait_on_white_is_not_over_exposed() -> None:
    image = Image.new("RGB", (1200, 800), "white")
    image.paste(person(), (300, 100))
    assert measure_quality(image, Box(476, 166, 572, 262)).findings() == []


def test_one_colour_is_nothing_to_learn_from() -> None:
    assert measure_quality(Image.new("RGB", (600, 600), "teal"), None).findings() == [
        "hardly anything is to be seen in it"
    ]


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (47, 49)])
def test_any_size_can_be_measured(size: tuple[int, int]) -> None:
    assert measure_quality(scene(size=size), None).signature.shape == (32, 32, 3)
