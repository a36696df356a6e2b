"""One size for a whole training: the largest that all pictures can give, and whose fault it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dataset.pictures import encoded, scene, zipped

from tintype.catalog.ideogram_v4_trainer import TRAINER_SIZES
from tintype.dataset import Dataset, DatasetOptions, fit, open_dataset
from tintype.dataset.sizes import UNDECIDED, Measured, TrainingSize, at_one_size, training_size
from tintype.dataset.subject import whole
from tintype.errors import InputError


def pictures(*sizes: tuple[int, int]) -> list[Measured]:
    return [Measured(f"{number}.jpg", *size) for number, size in enumerate(sizes)]


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


def test_auto_says_which_pictures_limited_it() -> None:
    found = training_size("auto", pictures((1600, 900), (900, 1600), (1200, 1200)))
    assert (found.narrowest, found.lowest) == (Measured("1.jpg", 900, 1600), Measured("0.jpg", 1600, 900))
    assert found.why == (
        "All pictures are trained at 896x896, the largest crop that each can give without being enlarged: "
        "the narrowest is 1.jpg (900x1600), the lowest is 0.jpg (1600x900)."
    )


def test_auto_says_it_once_when_one_picture_is_the_smallest_both_ways() -> None:
    assert training_size("auto", pictures((2000, 2000), (500, 400))).why.endswith("the smallest is 1.jpg (500x400).")


def test_auto_blames_no_picture_for_the_models_own_limits() -> None:
    assert training_size("auto", pictures((4000, 3000))).why.endswith("without being enlarged and the model takes.")
    long = training_size("auto", pictures((2048, 300)))
    assert (long.narrowest, long.lowest) == (None, Measured("0.jpg", 2048, 300))


def test_pictures_too_small_for_any_size_are_named() -> None:
    entry = refused("auto", (1024, 1024), (255, 2000), (2000, 100))
    assert entry["loc"] == ["body", "images_data_url"]
    assert entry["ctx"] == {"pictures": ["1.jpg", "2.jpg"]}
    assert "1.jpg (255x2000), 2.jpg (2000x100)" in str(entry["msg"])


@pytest.mark.parametrize("name", TRAINER_SIZES)
def test_a_preset_is_taken_by_pictures_that_just_fill_it_and_by_no_smaller_ones(name: str) -> None:
    width, height = TRAINER_SIZES[name]
    assert training_size(name, pictures((width, height), (4000, 4000))) == TrainingSize(width, height)
    for small in ((width - 1, height), (width, height - 1)):
        entry = refused(name, (width, height), small)
        assert (entry["loc"], entry["ctx"]) == (["body", "resolution"], {"pictures": ["1.jpg"]})
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


def opened(tmp_path: Path, *sizes: tuple[int, int]) -> Dataset:
    files = {f"{number}.jpg": encoded(scene(number, size), "JPEG") for number, size in enumerate(sizes)}
    wishes = DatasetOptions(trigger=None, area_sides=UNDECIDED)
    return open_dataset(zipped(tmp_path / "a.zip", files), tmp_path / "out", wishes, find=whole, tell=lambda line: None)


def test_all_examples_of_a_dataset_are_trained_at_the_one_size_without_being_enlarged(tmp_path: Path) -> None:
    dataset, size = at_one_size(opened(tmp_path, (1000, 420), (300, 900), (333, 555)), "auto")
    assert (str(size), size.narrowest, size.lowest) == (
        "288x416", Measured("1.jpg", 300, 900), Measured("0.jpg", 1000, 420)
    )  # fmt: skip
    for example in dataset.examples:
        (bucket,) = example.buckets
        assert (bucket.width, bucket.height) == fit(example.image, bucket).size == (288, 416)
        assert example.image.width >= 288
        assert example.image.height >= 416
    assert dataset.report.buckets == {"288x416": 3}


def test_a_base_of_wider_tokens_trains_whole_ones(tmp_path: Path) -> None:
    dataset, size = at_one_size(opened(tmp_path, (1000, 700)), "auto", step=128)
    assert str(size) == "992x688"
    assert [str(bucket) for bucket in dataset.examples[0].buckets] == ["896x640"]


@pytest.mark.parametrize("size", [(2600, 2100), (5000, 2050), (2049, 2600)])
def test_what_is_kept_of_a_large_picture_fills_the_largest_size(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset, chosen = at_one_size(opened(tmp_path, size), "auto")
    assert str(chosen) == "2048x2048"
    image = dataset.examples[0].image
    assert min(image.size) >= 2048


def test_a_dataset_that_cannot_fill_the_size_asked_for_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot fill square \(1024x1024\).*1\.jpg"):
        at_one_size(opened(tmp_path, (1100, 1100), (300, 900)), "square")
