"""Photos that are kept: what is reported of them is what a training reports, and what is chosen of them is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from tests.support.images import encoded, person, scene, zipped

from tintype.dataset import DatasetOptions, open_dataset
from tintype.dataset.measured import KeptPhoto, SentFile, measure_files, photo_name, report_on
from tintype.dataset.sizes import NamedSize, TrainingSize
from tintype.dataset.subject import find_face
from tintype.errors import InputError
from tintype.files.dataset_manifest import MANIFEST, PhotoNote, read_manifest, write_manifest

FILES = {
    "a.png": encoded(scene(1, (450, 300))), "a.txt": b"[trigger] by a wall",
    "copy.jpg": encoded(scene(1, (450, 300)).resize((300, 200)), "JPEG"), "face.png": encoded(person()),
    "dark.png": encoded(Image.new("RGB", (64, 64), "#030303")), "notes.pdf": b"%PDF",
}  # fmt: skip


def measured(tmp_path: Path, files: dict[str, bytes]) -> list[dict[str, Any]]:
    archive = zipped(tmp_path / "sent.zip", files)
    photos: list[dict[str, Any]] = measure_files([SentFile("sent.zip", archive)], tmp_path / "measured", [])["photos"]
    return json.loads(json.dumps(photos))


def test_the_report_is_the_one_that_a_training_would_write(tmp_path: Path) -> None:
    options = DatasetOptions(trigger="ohwx", subject_crop=True)
    trained = open_dataset(
        zipped(tmp_path / "a.zip", FILES), tmp_path / "out", options, find_subject=find_face, log=lambda _: None
    )
    kept = [
        KeptPhoto(photo["name"], photo["measured"], PhotoNote(photo["caption"], "file"))
        for photo in measured(tmp_path, FILES)
    ]
    report, copies, problem = report_on(kept, options, None)
    told, expected = report.to_json(), trained.report.to_json()
    for name in ("captions", "dropped"):  # files that are no photos are not kept
        del told[name], expected[name]
    assert told == expected
    assert copies == {"copy.jpg": "a.png"}
    assert problem is None
    assert isinstance(report_on(kept, options, (10, 100))[2], InputError)


def test_what_is_chosen_of_a_photo_is_trained_and_nothing_else(tmp_path: Path) -> None:
    notes = {
        "face.png": PhotoNote("Eileen", "person", None, (0.25, 0, 1, 0.5)), "a.png": PhotoNote("a wall", "model", "m")
    }  # fmt: skip
    files = {MANIFEST: write_manifest(notes), **FILES}
    options = DatasetOptions(trigger="ohwx", subject_crop=True, create_masks=True)
    dataset = open_dataset(
        zipped(tmp_path / "a.zip", files), tmp_path / "out", options, find_subject=find_face, log=lambda _: None
    )
    [face] = [example for example in dataset.examples if example.name == "face.png"]
    part = person().crop((128, 0, 512, 256))
    assert ImageChops.difference(face.image, part).getbbox() is None
    told = {image.name: image for image in dataset.report.kept}
    assert told["face.png"].trained[0].box == [128, 0, 512, 256]
    assert [told[name].caption_source for name in ("face.png", "a.png", "dark.png")] == ["person", "model", "trigger"]
    assert told["a.png"].caption == "a wall"  # its text file says something else, and was written before


def test_one_size_for_all_is_chosen_from_what_is_chosen_of_each(tmp_path: Path) -> None:
    seen: list[NamedSize] = []

    def choose(sizes: Any) -> TrainingSize:
        seen.extend(sizes)
        return TrainingSize(512, 512)

    files = {
        MANIFEST: write_manifest({"face.png": PhotoNote(crop=(0, 0, 0.5, 1))}), "face.png": FILES["face.png"]
    }  # fmt: skip
    archive = zipped(tmp_path / "a.zip", files)
    options = DatasetOptions(choose_size=choose)
    open_dataset(archive, tmp_path / "out", options, find_subject=find_face, log=lambda _: None)
    assert [(size.width, size.height) for size in seen] == [(256, 512)]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"[]", b'{"photos": {}}', b'{"tintype_dataset": 1, "photos": []}', b"[" * 100_000]
)
def test_what_is_no_manifest_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_manifest(tmp_path / "a") == {}


@pytest.mark.parametrize("crop", [[0, 0, 1], [0, 0, 0, 1], [0.5, 0, 2, 1], ["a"] * 4, "abcd", [float("nan")] * 4])
def test_a_crop_that_is_none_is_passed_over(tmp_path: Path, crop: Any) -> None:
    told = {"tintype_dataset": 1, "photos": {"a": {"caption": 7, "caption_by": "nobody", "crop": crop}, "b": 1}}
    (tmp_path / "a").write_text(json.dumps(told))
    assert read_manifest(tmp_path / "a") == {"a": PhotoNote()}


@pytest.mark.parametrize(
    ("identity", "name"),
    [("in/a.jpg", "a.jpg"), (".a.PNG", "a.PNG"), ("..", "photo.png"), ("a:", "a.png"), ("a\nb", "a\ufffdb.png"),
     ("photo.jpg_large", "photo.jpg_large.png"), ("", "photo.png")],
)  # fmt: skip
def test_a_name_can_stand_in_an_archive(identity: str, name: str) -> None:
    assert photo_name(identity, ".png") == name
