"""The whole way from an archive to examples, and what the person reads about it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.support.archives import RawMember, raw_zip
from tests.support.images import encoded, person, scene, zipped

from tintype.dataset import Dataset, DatasetOptions, Limits, open_dataset
from tintype.dataset.image import register_heif
from tintype.dataset.subject import SubjectFinder, find_face, whole
from tintype.errors import ImageLoadError, ImageTooLarge, InputError, TooFewFiles, TooManyFiles

TOK = DatasetOptions(trigger="TOK")


def picture(seed: int = 0, size: tuple[int, int] = (640, 640), form: str = "PNG") -> bytes:
    return encoded(scene(seed, size), form)


def opened(
    tmp_path: Path,
    files: dict[str, bytes],
    limits: Limits | None = None,
    *,
    find_subject: SubjectFinder = whole,
    options: DatasetOptions = TOK,
) -> tuple[Dataset, list[str]]:
    lines: list[str] = []
    archive = zipped(tmp_path / "a.zip", files)
    dataset = open_dataset(
        archive, tmp_path / "out", options, find_subject=find_subject, log=lines.append, limits=limits
    )
    return dataset, lines


def test_captions_belong_to_the_picture_of_their_name_and_folder(tmp_path: Path) -> None:
    files = {"a.png": picture(), "a.txt": b"[trigger] here", "in/a.png": picture(1), "B.JPG": picture(2, form="JPEG")}
    dataset, _ = opened(tmp_path, files)
    assert {example.name: example.caption for example in dataset.examples} == {
        "a.png": "TOK here", "in/a.png": "TOK", "B.JPG": "TOK",
    }  # fmt: skip


def test_one_broken_picture_among_good_ones_is_left_out_and_said(tmp_path: Path) -> None:
    dataset, lines = opened(
        tmp_path, {"a.png": picture(), "b.png": picture()[:90], "notes.pdf": b"%PDF", "c.jpg": b"hi", ".DS_Store": b"x"}
    )
    assert [example.name for example in dataset.examples] == ["a.png"]
    assert {note.name for note in dataset.report.dropped} == {"b.png", "notes.pdf", "c.jpg"}
    assert [note.name for note in dataset.report.ignored] == [".DS_Store"]
    assert any("b.png" in line for line in lines)


def test_repairs_are_said(tmp_path: Path) -> None:
    image = scene()
    image.putalpha(40)
    target = io.BytesIO()
    image.save(target, "PNG")
    dataset, lines = opened(tmp_path, {"a.png": target.getvalue()})
    assert dataset.report.repaired[0].name == "a.png"
    assert any("ransparency" in line for line in lines)


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
        options=DatasetOptions(subject_crop=True, create_masks=True),
    )
    said = " ".join(dataset.report.warnings)
    for what in ("few", "512", "a photo of a person", "lost.txt", "No face", "No mask"):
        assert what in said


def test_the_report_lists_every_file_and_size_as_trained(tmp_path: Path) -> None:
    dataset, _ = opened(tmp_path, {"a.png": picture(), "b.png": picture(1, size=(2048, 1024))})
    kept = json.loads(dataset.report.write(tmp_path / "report.json").read_text())
    assert [entry["name"] for entry in kept["kept"]] == ["a.png", "b.png"]
    assert kept["kept"][0]["trained"][0]["buckets"] == ["512x512", "640x640"]
    assert kept["kept"][0]["caption"] == "TOK"
    assert sum(kept["buckets"].values()) == 2 + 3


def test_pictures_are_kept_no_larger_than_they_are_trained(tmp_path: Path) -> None:
    dataset, _ = opened(tmp_path, {"a.jpg": picture(size=(2100, 2100), form="JPEG")})
    assert dataset.examples[0].image.size[0] < 1024 * 1.5


def test_the_identity_of_a_dataset_changes_with_a_pixel_and_with_a_word(tmp_path: Path) -> None:
    digests = set()
    for n, files in enumerate([{"a.png": picture()}, {"a.png": picture(1)}, {"a.png": picture(), "a.txt": b"x"}]):
        (tmp_path / str(n)).mkdir()
        digests.add(opened(tmp_path / str(n), files)[0].digest)
    assert len(digests) == 3


def test_a_mask_has_the_size_of_its_picture(tmp_path: Path) -> None:
    image = scene(0, (1200, 900))
    image.putalpha(40)
    target = io.BytesIO()
    image.save(target, "PNG")
    example = opened(tmp_path, {"a.png": target.getvalue()}, options=replace(TOK, create_masks=True))[0].examples[0]
    assert example.mask is not None
    assert example.mask.size == example.image.size


def test_captions_come_from_every_place_and_the_pictures_own_file_wins(tmp_path: Path) -> None:
    lines = [{"file_name": name, "text": f"listed {name}"} for name in ("a.png", "b.png", "lost.png")]
    files = {
        "a.png": picture(0), "A.TXT": b"own [trigger]", "b.png": picture(1), "c.png": picture(2),
        "c.png.txt": b"named for the file", "d.png": picture(3), "d.caption": b"another suffix",
        "metadata.jsonl": "\n".join(json.dumps(line) for line in lines).encode(),
    }  # fmt: skip
    dataset, _ = opened(tmp_path, files)
    captions = {example.name: example.caption for example in dataset.examples}
    assert captions == {
        "a.png": "own TOK", "b.png": "listed b.png", "c.png": "named for the file", "d.png": "another suffix",
    }  # fmt: skip
    assert [kept.caption_source for kept in dataset.report.kept] == ["file", "metadata", "file", "file"]
    assert any("lost" in warning for warning in dataset.report.warnings)
    assert any("do not name the trigger" in warning for warning in dataset.report.warnings)


def test_a_second_copy_is_left_out_and_its_caption_is_not_lost(tmp_path: Path) -> None:
    small = encoded(scene().resize((320, 320)), "JPEG")
    dataset, lines = opened(tmp_path, {"a.jpg": small, "a.txt": b"[trigger] here", "b.png": picture()})
    assert [(example.name, example.caption) for example in dataset.examples] == [("b.png", "TOK here")]
    assert "the same shot as b.png" in dataset.report.dropped[0].what
    assert any("a.jpg" in line for line in lines)


def test_a_large_portrait_is_trained_in_several_framings_that_its_caption_states(tmp_path: Path) -> None:
    portrait = encoded(person().resize((2560, 2560)), "JPEG")
    files = {"a.jpg": portrait, "a.txt": b"[trigger] in orange", "b.jpg": encoded(scene(5), "JPEG")}
    dataset, _ = opened(tmp_path, files, find_subject=find_face, options=replace(TOK, subject_crop=True))
    captions = [example.caption for example in dataset.examples if example.name == "a.jpg"]
    assert captions == ["TOK in orange, upper body", "TOK in orange, close-up"]
    assert dataset.report.framings == {"half": 1, "head": 1}
    assert dataset.report.face_finder
    assert len({example.digest for example in dataset.examples}) == 3


@pytest.mark.parametrize(("caption", "crop"), [(b"close-up of [trigger]", True), (b"[trigger] in orange", False)])
def test_words_for_a_framing_are_not_added_where_they_would_be_wrong(
    tmp_path: Path, caption: bytes, crop: bool
) -> None:
    portrait = encoded(person().resize((2560, 2560)), "JPEG")
    dataset, _ = opened(
        tmp_path, {"a.jpg": portrait, "a.txt": caption}, find_subject=find_face, options=replace(TOK, subject_crop=crop)
    )
    assert [example.caption for example in dataset.examples] == [caption.decode().replace("[trigger]", "TOK")]


def test_several_people_blur_and_darkness_are_said_with_their_names(tmp_path: Path) -> None:
    crowd = Image.new("RGB", (1600, 900), (90, 110, 130))
    crowd.paste(person().resize((800, 800)), (0, 50))
    crowd.paste(person().resize((700, 700)), (850, 100))
    blurred = person().resize((64, 64)).resize((800, 800), Image.Resampling.BICUBIC)
    night = Image.linear_gradient("L").resize((600, 600)).point(lambda level: level // 6)
    files = {"crowd.jpg": encoded(crowd, "JPEG"), "soft.jpg": encoded(blurred, "JPEG"), "night.png": encoded(night)}
    dataset, _ = opened(tmp_path, files, find_subject=find_face, options=replace(TOK, subject_crop=True))
    said = " ".join(dataset.report.warnings)
    for what in ("Several people are in crowd.jpg", "Blurred: soft.jpg", "Under-exposed: night.png"):
        assert what in said
    assert len(dataset.report.kept) == 3, "findings are said, not acted upon"


def test_order_in_the_archive_and_threads_do_not_change_what_is_trained(tmp_path: Path) -> None:
    files = {f"{n}.png": picture(n, size=(200 + n, 200)) for n in range(9)}
    digests = set()
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        digests.add(opened(tmp_path / str(number), files)[0].digest)
        files = dict(reversed(files.items()))
    assert len(digests) == 1


def test_intake_can_be_stopped_between_two_photos(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {f"{number}.png": picture(number, (90, 90)) for number in range(9)})
    calls: list[int] = []

    class Stopped(Exception):
        pass

    def check() -> None:
        calls.append(len(calls))
        if len(calls) == 12:  # nine for what is unpacked, at least three of those after an image
            raise Stopped

    with pytest.raises(Stopped):
        open_dataset(archive, tmp_path / "out", TOK, find_subject=whole, log=lambda line: None, check=check)
    assert len(calls) == 12


def test_captions_are_trained_as_the_trainer_writes_them_and_the_report_shows_what_was_done(tmp_path: Path) -> None:
    def shouted(text: str, name: str) -> tuple[str, list[str]]:
        if "?" in text:
            raise InputError(f"{name} asks.")
        return text.upper(), [f"{name} made louder; nothing is blurred by it"]

    files = {f"{number}.png": picture(number) for number in range(8)}
    options = DatasetOptions(default_caption="a hat", canonical_caption=shouted)
    dataset, _ = opened(tmp_path, {**files, "1.txt": b"red"}, options=options)
    assert [example.caption for example in dataset.examples][:3] == ["A HAT", "RED", "A HAT"]
    kept = dataset.report.kept[1]
    assert (kept.caption, kept.caption_source, kept.trained[0].caption) == ("red", "file", "RED")
    assert kept.findings == ["caption: 1.png made louder; nothing is blurred by it"]
    assert not any(warning.startswith("Blurred") for warning in dataset.report.warnings)

    with pytest.raises(InputError, match=r"^0.png asks\. 1.png asks\. .*4.png asks\. So are 2 more\.$"):
        opened(tmp_path, {**files, **{f"{number}.txt": b"what?" for number in range(7)}}, options=options)


def test_a_forced_caption_takes_the_place_of_all_and_the_report_says_so(tmp_path: Path) -> None:
    options = DatasetOptions(default_caption="a hat", force_default_caption=True)
    dataset, _ = opened(tmp_path, {"a.png": picture(), "a.txt": b"red", "b.png": picture(1)}, options=options)
    assert [example.caption for example in dataset.examples] == ["a hat", "a hat"]
    assert [kept.caption_source for kept in dataset.report.kept] == ["default", "default"]
    assert 'All captions were replaced by "a hat", as asked for.' in dataset.report.warnings
    assert not any("No picture of the same name" in warning for warning in dataset.report.warnings)


def test_too_few_usable_pictures_are_refused_after_it_was_said_which_are_not(tmp_path: Path) -> None:
    lines: list[str] = []
    archive = zipped(tmp_path / "a.zip", {"a.png": picture(), "copy.png": picture(), "broken.png": picture()[:90]})
    options = DatasetOptions(count=(2, 5))
    with pytest.raises(TooFewFiles, match="1, where at least 2"):
        open_dataset(archive, tmp_path / "out", options, find_subject=whole, log=lines.append)
    assert any("broken.png" in line for line in lines)
    assert any("copy.png" in line for line in lines)


@pytest.mark.slow
def test_what_is_in_a_file_decides_whether_it_is_a_picture_and_not_its_name(tmp_path: Path) -> None:
    forms = {
        "a.jpe": "JPEG", "b.jpg_large": "JPEG", "c.apng": "PNG", "e.jpg ": "JPEG", "photo.jpg (1)": "JPEG",
        "IMG_1": "HEIF", "f.jpg": "HEIF", "g.heic": "JPEG", "h.jpg": "AVIF", "i.webp.crdownload": "WEBP",
        "j.JPG_original": "TIFF", "k.dat": "GIF", "l.tmp": "BMP", "m.txt": "PNG", "n.json": "WEBP", "o.": "HEIF",
    }  # fmt: skip
    register_heif()
    pictures = {name: picture(seed, form=form) for seed, (name, form) in enumerate(forms.items())}
    others = {"p.docx": b"words", "q.jpe": b"words", "r.jpg_large": b"words", "s.mp4": b"\0\0\0\x18ftypisom"}
    dataset, _ = opened(tmp_path, {**pictures, **others})
    assert {image.name for image in dataset.report.kept} == set(forms)
    assert {note.name for note in dataset.report.dropped} == set(others)


def test_what_is_damaged_is_left_out_by_name_and_the_rest_is_trained(tmp_path: Path) -> None:
    good = {f"good{n}.png": picture(n) for n in range(3)}
    damaged = {}
    for number, percent in enumerate((10, 50, 90)):
        content = bytearray(picture(number + 3))
        content[len(content) * percent // 100] ^= 0x55
        damaged[f"flip{percent}.png"] = bytes(content)
    dataset, lines = opened(tmp_path, good | damaged)
    assert {image.name for image in dataset.report.kept} == set(good)
    assert {note.name for note in dataset.report.dropped} == set(damaged)
    assert all(any(name in line for line in lines) for name in damaged)


def test_an_archive_of_members_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(raw_zip([RawMember(f"{n}.png".encode(), picture(n), method=98) for n in range(3)]))
    with pytest.raises(TooFewFiles, match=r"0\.png: compressed by PPMd"):
        open_dataset(tmp_path / "a", tmp_path / "out", TOK, find_subject=whole, log=lambda line: None)
