"""Sizes at which a picture is trained; the one size for a whole training, and whose fault it is; how many are taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image
from tests.support.images import encoded, scene, zipped

from tintype.catalog.ideogram_v4_trainer import TRAINER_SIZES
from tintype.dataset import Dataset, DatasetOptions, fit, open_dataset
from tintype.dataset.sizes import (
    MULTI_RESOLUTION,
    SINGLE_RESOLUTION,
    Bucket,
    NamedSize,
    TrainingSize,
    buckets_of,
    check_count,
    largest_common_size,
    size_asked_for,
)
from tintype.dataset.subject import whole
from tintype.errors import InputError

sides = st.integers(16, 6000)


def test_a_large_square_is_trained_at_every_area() -> None:
    assert [str(bucket) for bucket in buckets_of((3000, 3000), MULTI_RESOLUTION)] == ["512x512", "768x768", "1024x1024"]
    assert [str(bucket) for bucket in buckets_of((1024, 1024), SINGLE_RESOLUTION)] == ["1024x1024"]


def test_a_small_picture_is_trained_at_its_own_size_once() -> None:
    assert [str(bucket) for bucket in buckets_of((600, 600), MULTI_RESOLUTION)] == ["512x512", "592x592"]


@given(sides, sides)
def test_never_enlarged_never_odd_and_the_shape_is_kept(width: int, height: int) -> None:
    buckets = buckets_of((width, height), MULTI_RESOLUTION)
    assert len(buckets) <= len(MULTI_RESOLUTION)
    for bucket, area_side in zip(buckets, MULTI_RESOLUTION, strict=False):
        assert bucket.width % 16 == 0
        assert bucket.height % 16 == 0
        assert bucket.width <= width
        assert bucket.height <= height
        assert bucket.width * bucket.height <= area_side**2
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
    seen = fit(image, Bucket(96, 96)).convert("L").point(lambda level: 255 * (level < 128)).getbbox()
    assert seen is not None
    left, top, right, bottom = seen
    assert abs((right - left) - (bottom - top)) <= 2
    assert abs((left + right) / 2 - 48) <= 1


def test_a_picture_of_the_very_size_is_left_alone() -> None:
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    assert fit(image, Bucket(64, 64)) is image


def pictures(*sizes: tuple[int, int]) -> list[NamedSize]:
    return [NamedSize(f"{number}.jpg", *size) for number, size in enumerate(sizes)]


def training_size(resolution: str, images: list[NamedSize]) -> TrainingSize:
    return largest_common_size(images) if resolution == "auto" else size_asked_for(resolution, images)


def refused(resolution: str, *sizes: tuple[int, int]) -> dict[str, object]:
    with pytest.raises(InputError) as caught:
        training_size(resolution, pictures(*sizes))
    return dict(caught.value.details[0])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(1024, 1024)], (1024, 1024)),
        ([(1039, 1023)], (1024, 1008)),  # whole tokens of 16 pixels
        ([(1600, 900), (900, 1600)], (896, 896)),  # one upright picture among wide ones
        ([(1200, 800), (1000, 1000)], (1000 // 16 * 16, 800)),
        ([(4000, 3000)] * 3, (2048, 2048)),  # the model's longest side
        ([(2048, 340), (2000, 400)], (2000, 336)),
        ([(2048, 300)], (1728, 288)),  # six times as long as high, and no longer
        ([(270, 2048)], (256, 1536)),
        ([(256, 256)], (256, 256)),
    ],
)
def test_auto_is_the_largest_crop_that_all_can_give(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    found = training_size("auto", pictures(*sizes))
    assert (found.width, found.height) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4032, 3024), (1168, 880)),
        ((3000, 8000), (624, 1664)),
        ((9000, 1500), (2048, 416)),
        ((1600, 1200), (1168, 880)),
        ((2048, 704), (1728, 592)),
        ((1024, 1024), (1024, 1024)),
        ((1040, 1024), (1024, 1008)),
        ((2048, 512), (2048, 512)),
    ],
)
def test_auto_takes_no_more_than_a_megapixel_in_the_same_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    found = largest_common_size(pictures(size), 1024 * 1024)
    assert (found.width, found.height) == expected
    assert found.width * found.height <= 1024 * 1024
    assert ("A larger size may be named" in found.why) == (found.whole is not None)


def test_a_size_that_cannot_be_filled_is_answered_with_what_auto_would_take() -> None:
    with pytest.raises(InputError, match="auto, which would take 1264x800"):
        size_asked_for("square", pictures((1600, 1200), (1600, 1008)), 1024 * 1024)


def test_auto_says_which_pictures_limited_it() -> None:
    found = training_size("auto", pictures((1600, 900), (900, 1600), (1200, 1200)))
    assert (found.narrowest, found.lowest) == (NamedSize("1.jpg", 900, 1600), NamedSize("0.jpg", 1600, 900))
    assert found.why == (
        "All pictures are trained at 896x896, the largest crop that each can give without being enlarged: "
        "the narrowest is 1.jpg (900x1600), the lowest is 0.jpg (1600x900)."
    )


def test_auto_says_it_once_when_one_picture_is_the_smallest_both_ways() -> None:
    assert training_size("auto", pictures((2000, 2000), (500, 400))).why.endswith("the smallest is 1.jpg (500x400).")


def test_auto_blames_no_picture_for_the_models_own_limits() -> None:
    assert training_size("auto", pictures((4000, 3000))).why.endswith("without being enlarged and the model takes.")
    long = training_size("auto", pictures((2048, 300)))
    assert (long.narrowest, long.lowest) == (None, NamedSize("0.jpg", 2048, 300))


def test_pictures_too_small_for_any_size_are_named() -> None:
    entry = refused("auto", (1024, 1024), (255, 2000), (2000, 100))
    assert entry["ctx"] == {"pictures": ["1.jpg", "2.jpg"]}
    assert "1.jpg (255x2000), 2.jpg (2000x100)" in str(entry["msg"])


@pytest.mark.parametrize("name", TRAINER_SIZES)
def test_a_preset_is_taken_by_pictures_that_just_fill_it_and_by_no_smaller_ones(name: str) -> None:
    width, height = TRAINER_SIZES[name]
    assert training_size(name, pictures((width, height), (4000, 4000))) == TrainingSize(width, height)
    for small in ((width - 1, height), (width, height - 1)):
        entry = refused(name, (width, height), small)
        assert entry["ctx"] == {"pictures": ["1.jpg"]}
        assert f"1 of 2 pictures cannot fill {name} ({width}x{height})" in str(entry["msg"])
        assert "1.jpg" in str(entry["msg"])


def test_a_size_by_its_sides_is_treated_alike_and_the_answer_offers_what_would_do() -> None:
    assert training_size("640x320", pictures((640, 320))) == TrainingSize(640, 320)
    assert training_size("640x320", pictures((640, 320))).why == "All pictures are trained at 640x320, as asked for."
    entry = refused("640x640", (640, 512), (800, 800))
    assert "auto, which would take 640x512" in str(entry["msg"])
    assert "a smaller size" in str(refused("640x640", (100, 100))["msg"])


def test_a_long_list_of_pictures_is_cut_in_the_sentence_alone() -> None:
    entry = refused("square", *[(512, 512)] * 50)
    assert "and 30 more" in str(entry["msg"])
    assert len(entry["ctx"]["pictures"]) == 50  # type: ignore[index]


@given(st.lists(st.tuples(st.integers(256, 5000), st.integers(256, 5000)), min_size=1, max_size=20))
def test_auto_never_enlarges_and_no_larger_size_would_do(sizes: list[tuple[int, int]]) -> None:
    found = training_size("auto", pictures(*sizes))
    assert found.width % 16 == found.height % 16 == 0
    assert all(width >= found.width and height >= found.height for width, height in sizes)
    assert min(found.width, found.height) >= 256
    assert max(found.width, found.height) <= min(2048, 6 * min(found.width, found.height))
    wider, higher = (found.width + 16, found.height), (found.width, found.height + 16)
    for width, height in (wider, higher):
        fits = all(picture[0] >= width and picture[1] >= height for picture in sizes)
        assert not fits or max(width, height) > 2048 or max(width, height) > 6 * min(width, height)


def opened(tmp_path: Path, *sizes: tuple[int, int], resolution: str = "auto", step: int = 16) -> Dataset:
    files = {f"{number}.jpg": encoded(scene(number, size), "JPEG") for number, size in enumerate(sizes)}
    options = DatasetOptions(choose_size=lambda images: training_size(resolution, list(images)), size_step=step)
    archive = zipped(tmp_path / "a.zip", files)
    return open_dataset(archive, tmp_path / "out", options, find_subject=whole, log=lambda line: None)


def test_all_examples_of_a_dataset_are_trained_at_the_one_size_without_being_enlarged(tmp_path: Path) -> None:
    dataset = opened(tmp_path, (1000, 420), (300, 900), (333, 555))
    assert dataset.size == TrainingSize(
        288, 416, NamedSize("1.jpg", 300, 900), NamedSize("0.jpg", 1000, 420), automatic=True
    )
    for example in dataset.examples:
        (bucket,) = example.buckets
        assert (bucket.width, bucket.height) == fit(example.image, bucket).size == (288, 416)
        assert example.image.width >= 288
        assert example.image.height >= 416
    assert dataset.report.buckets == {"288x416": 3}


def test_a_base_of_wider_tokens_trains_whole_ones(tmp_path: Path) -> None:
    dataset = opened(tmp_path, (1000, 700), step=128)
    assert str(dataset.size) == "992x688"
    assert [str(bucket) for bucket in dataset.examples[0].buckets] == ["896x640"]
    assert dataset.report.buckets == {"896x640": 1}


@pytest.mark.parametrize("size", [(2600, 2100), (5000, 2050), (2049, 2600)])
def test_what_is_kept_of_a_large_picture_fills_the_largest_size_and_is_not_much_larger(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    dataset = opened(tmp_path, size)
    assert str(dataset.size) == "2048x2048"
    assert 2048 <= min(dataset.examples[0].image.size) <= 2048 * 1.7


def test_a_dataset_that_cannot_fill_the_size_asked_for_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot fill square \(1024x1024\).*1\.jpg"):
        opened(tmp_path, (1100, 1100), (300, 900), resolution="square")


def test_pictures_that_are_left_out_do_not_count_for_the_size(tmp_path: Path) -> None:
    small = encoded(scene(0, (320, 320)), "PNG")
    files = {"copy.png": small, "first.png": encoded(scene(0, (320, 320)).resize((640, 640)), "PNG"),
             "broken.png": small[:200]}  # fmt: skip
    options = DatasetOptions(choose_size=largest_common_size)
    archive = zipped(tmp_path / "a.zip", files)
    dataset = open_dataset(archive, tmp_path / "out", options, find_subject=whole, log=lambda line: None)
    assert str(dataset.size) == "640x640"


@pytest.mark.parametrize("count", [10, 55, 100])
def test_as_many_as_are_asked_for_are_taken(count: int) -> None:
    check_count(count, 10, 100)


@pytest.mark.parametrize(
    ("count", "kind", "ctx"),
    [
        (0, "archive_file_count_below_minimum", {"min_count": 10, "provided_count": 0}),
        (9, "archive_file_count_below_minimum", {"min_count": 10, "provided_count": 9}),
        (101, "archive_file_count_exceeds_maximum", {"max_count": 100, "provided_count": 101}),
    ],
)
def test_fewer_and_more_are_refused_with_both_numbers(count: int, kind: str, ctx: dict[str, int]) -> None:
    with pytest.raises(InputError) as caught:
        check_count(count, 10, 100)
    (entry,) = caught.value.details
    assert (entry["type"], entry["ctx"]) == (kind, ctx)
