"""The whole way from an archive to examples, and what the person reads about it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tintype.dataset import MULTI_RESOLUTION, Dataset, Limits, Wishes, open_dataset
from tintype.dataset.subject import whole
from tintype.errors import ImageLoadError, ImageTooLarge, TooFewFiles, TooManyFiles


def picture(shade: int = 0, size: tuple[int, int] = (640, 640), form: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, (shade, 100, 200)).save(target, form)
    return target.getvalue()


def opened(
    tmp_path: Path, files: dict[str, bytes], limits: Limits | None = None, **wishes: object
) -> tuple[Dataset, list[str]]:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    told: list[str] = []
    wished = Wishes(**{"trigger": "TOK", "area_sides": MULTI_RESOLUTION, **wishes})  # type: ignore[arg-type]
    dataset = open_dataset(
        tmp_path / "a.zip", tmp_path / "out", wished, find=lambda image: whole(image), tell=told.append, limits=limits
    )
    return dataset, told


def test_captions_belong_to_the_picture_of_their_name_and_folder(tmp_path: Path) -> None:
    files = {"a.png": picture(), "a.txt": b"[trigger] here", "in/a.png": picture(1), "B.JPG": picture(2, form="JPEG")}
    dataset, _ = opened(tmp_path, files)
    assert {example.name: example.caption for example in dataset.examples} == {
        "a.png": "TOK here", "in/a.png": "TOK", "B.JPG": "TOK",
    }  # fmt: skip


def test_one_broken_picture_among_good_ones_is_left_out_and_said(tmp_path: Path) -> None:
    dataset, told = opened(
        tmp_path, {"a.png": picture(), "b.png": picture()[:90], "notes.pdf": b"%PDF", "c.jpg": b"hi"}
    )
    assert [example.name for example in dataset.examples] == ["a.png"]
    assert {said.name for said in dataset.report.dropped} == {"b.png", "notes.pdf", "c.jpg"}
    assert any("b.png" in line for line in told)


def test_repairs_are_said(tmp_path: Path) -> None:
    image = Image.new("RGBA", (640, 640), (9, 9, 9, 40))
    target = io.BytesIO()
    image.save(target, "PNG")
    dataset, told = opened(tmp_path, {"a.png": target.getvalue()})
    assert dataset.report.repaired[0].name == "a.png"
    assert any("transparency" in line for line in told)


def test_nothing_but_broken_pictures_is_an_error_that_names_one(tmp_path: Path) -> None:
    with pytest.raises(ImageLoadError, match=r"a\.png"):
        opened(tmp_path, {"a.png": picture()[:90]})


@pytest.mark.parametrize("files", [{}, {"readme.txt": b"hello"}, {"more.zip": b"PK"}])
def test_no_picture_at_all_says_how_many_are_needed(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(TooFewFiles) as caught:
        opened(tmp_path, files)
    assert caught.value.details[0]["ctx"] == {"min_count": 1, "provided_count": 0}
    assert "10" in caught.value.message


def test_too_many_pictures_and_too_many_pixels_end_the_request(tmp_path: Path) -> None:
    with pytest.raises(TooManyFiles):
        opened(tmp_path, {f"{n}.png": picture() for n in range(3)}, Limits(pictures=2))
    with pytest.raises(ImageTooLarge):
        opened(tmp_path, {"a.png": picture()}, Limits(pixels=1000))


def test_warnings_speak_of_few_photos_small_photos_and_missing_words(tmp_path: Path) -> None:
    dataset, _ = opened(
        tmp_path,
        {"a.png": picture(size=(300, 300)), "lost.txt": b"x"},
        trigger=None,
        subject_crop=True,
        create_masks=True,
    )
    said = " ".join(dataset.report.warnings)
    for what in ("few", "512", "a photo of a person", "lost.txt", "No face", "No mask"):
        assert what in said


def test_the_report_lists_every_file_and_size_as_trained(tmp_path: Path) -> None:
    dataset, _ = opened(tmp_path, {"a.png": picture(), "b.png": picture(size=(2048, 1024))})
    kept = json.loads(dataset.report.write(tmp_path / "report.json").read_text())
    assert [entry["name"] for entry in kept["kept"]] == ["a.png", "b.png"]
    assert kept["kept"][0]["buckets"] == ["512x512", "640x640"]
    assert kept["kept"][0]["caption"] == "TOK"
    assert sum(kept["buckets"].values()) == 2 + 3


def test_pictures_are_kept_no_larger_than_they_are_trained(tmp_path: Path) -> None:
    dataset, _ = opened(tmp_path, {"a.png": picture(size=(3000, 3000))})
    assert dataset.examples[0].image.size == (1024, 1024)


def test_the_identity_of_a_dataset_changes_with_a_pixel_and_with_a_word(tmp_path: Path) -> None:
    digests = set()
    for n, files in enumerate([{"a.png": picture()}, {"a.png": picture(1)}, {"a.png": picture(), "a.txt": b"x"}]):
        (tmp_path / str(n)).mkdir()
        digests.add(opened(tmp_path / str(n), files)[0].digest)
    assert len(digests) == 3


def test_a_mask_has_the_size_of_its_picture(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2000, 1500), (9, 9, 9, 40))
    target = io.BytesIO()
    image.save(target, "PNG")
    example = opened(tmp_path, {"a.png": target.getvalue()}, create_masks=True)[0].examples[0]
    assert example.mask is not None
    assert example.mask.size == example.image.size
