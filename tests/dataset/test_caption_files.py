"""Caption files of whole archives: which picture has which, in what encoding, and that the report names every file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.archives import RawMember, raw_zip
from tests.support.images import encoded, scene, zipped

from tintype.dataset import Dataset, DatasetOptions, open_dataset
from tintype.dataset.subject import whole
from tintype.models.ideogram4.captions import canonical

PORTRAIT = DatasetOptions(trigger="TOK")
IDEOGRAM = DatasetOptions(default_caption="a thing", canonical_caption=lambda text, name: (canonical(text).text, ()))
SAID = {
    "high_level_description": "a portrait of zwx",
    "compositional_deconstruction": {
        "background": "a green wall",
        "elements": [{"type": "obj", "desc": "zwx smiling"}],
    },
}
RUSSIAN = "портрет [trigger] в красной рубашке, синий фон"
Files = dict[str, bytes | str]
PICTURES = [encoded(scene(seed, (48, 48))) for seed in range(8)]
JPEG = encoded(scene(8, (48, 48)), "JPEG")


def opened(tmp_path: Path, files: Mapping[str, bytes | str], options: DatasetOptions = PORTRAIT) -> Dataset:
    return opened_archive(zipped(tmp_path / "a.zip", files), tmp_path, options)


def opened_archive(archive: Path, tmp_path: Path, options: DatasetOptions = PORTRAIT) -> Dataset:
    return open_dataset(archive, tmp_path / "out", options, find_subject=whole, log=lambda line: None)


def captions(dataset: Dataset) -> dict[str, str]:
    return {example.name: example.caption for example in dataset.examples}


def said(dataset: Dataset) -> str:
    return "\n".join(dataset.report.warnings)


def listed(dataset: Dataset) -> dict[str, str]:
    """Which list of the report each file is in; fails where it is in two."""
    report = dataset.report.to_json()
    names = [(note["name"], where) for where in ("kept", "captions", "dropped", "ignored") for note in report[where]]
    assert len(dict(names)) == len(names)
    return dict(names)


def test_pictures_of_one_stem_have_each_its_own_row(tmp_path: Path) -> None:
    rows = [{"file_name": "1.jpg", "text": "the first"}, {"file_name": "1.png", "text": "the second"}]
    table = "\n".join(json.dumps(row) for row in rows)
    dataset = opened(tmp_path, {"1.jpg": JPEG, "1.png": PICTURES[0], "metadata.jsonl": table})
    assert captions(dataset) == {"1.jpg": "the first", "1.png": "the second"}
    assert listed(dataset) == {"1.jpg": "kept", "1.png": "kept", "metadata.jsonl": "captions"}


def test_a_file_for_one_of_two_is_given_to_none_and_said_with_the_way_out(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {"1.jpg": JPEG, "1.png": PICTURES[0], "1.txt": "whose?"})
    assert captions(dataset) == {"1.jpg": "TOK", "1.png": "TOK"}
    assert "each may be about several: 1.txt (1.jpg, 1.png)" in said(dataset)
    assert "a.jpg.txt" in said(dataset)
    assert listed(dataset)["1.txt"] == "dropped"


def test_a_file_for_one_shot_in_two_formats_goes_to_the_one_that_stays(tmp_path: Path) -> None:
    files: Files = {f"1.{form}": encoded(scene(0, (256, 256)), form) for form in ("png", "jpeg")}
    files["1.txt"] = b"[trigger] here"
    assert list(captions(opened(tmp_path, files)).values()) == ["TOK here"]


def test_a_damaged_picture_keeps_its_caption_from_another(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {"1.jpg": JPEG[:90], "1.png": PICTURES[0], "1.jpg.txt": "of the damaged one"})
    assert captions(dataset) == {"1.png": "TOK"}
    assert "No picture" not in said(dataset)


def test_a_picture_that_is_lost_in_the_archive_keeps_its_caption_from_another(tmp_path: Path) -> None:
    members = [RawMember(b"1.jpg", JPEG, checksum=1), RawMember(b"1.png", PICTURES[0]), RawMember(b"1.txt", b"whose?")]
    (tmp_path / "a.zip").write_bytes(raw_zip(members))
    dataset = opened_archive(tmp_path / "a.zip", tmp_path)
    assert captions(dataset) == {"1.png": "TOK"}
    assert "each may be about several: 1.txt (1.jpg, 1.png)" in said(dataset)


def test_kohyas_metadata_is_keyed_by_stems_with_dots(tmp_path: Path) -> None:
    files: Files = {f"portrait.v{n}.0.png": PICTURES[n] for n in range(3)}
    table = {f"portrait.v{n}.0": {"caption": f"number {n}"} for n in range(3)}
    dataset = opened(tmp_path, {**files, "meta_cap.json": json.dumps(table)})
    assert captions(dataset) == {f"portrait.v{n}.0.png": f"number {n}" for n in range(3)}
    assert "No picture" not in said(dataset)


def test_two_files_that_say_different_things_of_one_photo_are_named(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {"a.png": PICTURES[0], "a.caption": "second", "a.txt": "first", "a.png.txt": "literal"})
    assert captions(dataset) == {"a.png": "literal"}
    assert listed(dataset) == {"a.png": "kept", "a.png.txt": "captions", "a.txt": "dropped", "a.caption": "dropped"}
    assert "is trained: a.png (a.png.txt, a.caption), a.png (a.png.txt, a.txt)." in said(dataset)
    assert "No picture" not in said(dataset)


def test_two_members_of_one_name_have_no_caption_in_common(tmp_path: Path) -> None:
    members = [(b"a.png", PICTURES[0]), (b"a.png", PICTURES[1]), (b"a.txt", b"whose?"), (b"b.png", PICTURES[2])]
    (tmp_path / "a.zip").write_bytes(raw_zip([RawMember(name, data) for name, data in members]))
    dataset = opened_archive(tmp_path / "a.zip", tmp_path)
    assert captions(dataset) == {"a.png": "TOK", "a (2).png": "TOK", "b.png": "TOK"}
    assert "a.txt (a (2).png, a.png)" in said(dataset)


def test_names_longer_than_a_line_are_whole_names(tmp_path: Path) -> None:
    files: Files = {}
    for number in range(3):
        name = f"{'long' * 40}{number}{'name' * 40}"
        files |= {f"{name}.png": PICTURES[number], f"{name}.txt": f"number {number}"}
    dataset = opened(tmp_path, files)
    assert sorted(captions(dataset).values()) == ["number 0", "number 1", "number 2"]
    assert len(set(captions(dataset))) == 3


@pytest.mark.parametrize("encoding", ["cp932", "gb18030", "big5"])
def test_names_whose_letters_end_in_a_backslash_keep_their_captions(tmp_path: Path, encoding: str) -> None:
    stems = {"cp932": ["写真", "表", "ソ"], "gb18030": ["照片", "乗", "小红"], "big5": ["照片", "許功", "蓋"]}[encoding]
    members = [
        RawMember(name.encode(encoding), data)
        for number, stem in enumerate(stems)
        for name, data in ((f"{stem}.png", PICTURES[number]), (f"{stem}.txt", f"[trigger] number {number}".encode()))
    ]
    (tmp_path / "a.zip").write_bytes(raw_zip(members))
    dataset = opened_archive(tmp_path / "a.zip", tmp_path)
    assert captions(dataset) == {f"{stem}.png": f"TOK number {number}" for number, stem in enumerate(stems)}
    assert dataset.report.name_encoding in (encoding, f"{encoding}hkscs")
    assert f"read as {dataset.report.name_encoding}" in said(dataset)
    assert not dataset.report.ignored


@pytest.mark.parametrize("name", ["p{}.json", "p{}.png.json", "captions/p{}.json"])
@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (json.dumps(SAID), "a portrait of zwx"),
        (json.dumps({"caption": "of p{}"}), "of p{}"),
        (json.dumps("of p{}"), "of p{}"),
        (json.dumps({"image": "p{}.png", "text": "of p{}"}), "of p{}"),
        (json.dumps({"name": "Ann", "prompt": "of p{}"}), "of p{}"),
        (json.dumps({"caption": SAID}), "a portrait of zwx"),
    ],
)
def test_a_json_file_beside_each_photo_is_its_caption(tmp_path: Path, name: str, content: str, caption: str) -> None:
    files: Files = {}
    for number in range(3):
        files |= {f"p{number}.png": PICTURES[number], name.format(number): content.replace("p{}", f"p{number}")}
    dataset = opened(tmp_path, files)
    assert captions(dataset) == {f"p{n}.png": caption.replace("{}", str(n)) for n in range(3)}
    assert set(listed(dataset).values()) == {"kept", "captions"}
    for example in opened(tmp_path, files, IDEOGRAM).examples:
        summary = json.loads(example.caption)["high_level_description"]
        assert summary == caption.replace("{}", example.name[1])


def test_the_trainer_that_knows_the_schema_takes_all_of_it_and_the_others_the_summary(tmp_path: Path) -> None:
    files: Files = {"p.png": PICTURES[0], "p.json": json.dumps(SAID, indent=2), "p.txt": "a sentence"}
    assert captions(opened(tmp_path, files, IDEOGRAM)) == {"p.png": canonical(json.dumps(SAID)).text}
    assert captions(opened(tmp_path, files)) == {"p.png": "a sentence"}
    del files["p.txt"]
    dataset = opened(tmp_path, files)
    assert captions(dataset) == {"p.png": "a portrait of zwx"}
    assert dataset.report.kept[0].findings[-1] == "caption: the summary of one in Ideogram's schema"


@pytest.mark.parametrize("stem", ["caption", "text", "prompt", "name", "file"])
def test_a_photo_called_as_a_field_of_captions_has_its_own(tmp_path: Path, stem: str) -> None:
    files: Files = {f"{stem}.png": PICTURES[0], "p.png": PICTURES[1], "p.json": json.dumps({"caption": "of p"})}
    files["gone.json"] = json.dumps({stem: "of a photo that is not here", "author": "Ann"})
    if stem not in ("name", "file"):  # which name a picture
        assert captions(opened(tmp_path, files)) == {f"{stem}.png": "TOK", "p.png": "of p"}
    table = json.dumps({stem: "of the field", "p": "of p"})
    files = {f"{stem}.png": PICTURES[0], "p.png": PICTURES[1], "all.json": table}
    if stem not in ("name", "file"):
        assert captions(opened(tmp_path, files)) == {f"{stem}.png": "of the field", "p.png": "of p"}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("captions.txt", "image,caption\na.png,one\nb.png,two\n"),
        ("captions.csv", "Image;Caption\na.png;one\nb.png;two\n"),
        ("meta/captions.tsv", "a.png\tone\nb.png\ttwo\n"),
        ("captions.json", '{"/home/me/a.png": {"caption": "one"}, "/home/me/b.png": {"caption": "two"}}'),
    ],
)
def test_a_table_in_any_form_is_about_the_photos_it_names(tmp_path: Path, name: str, table: str) -> None:
    dataset = opened(tmp_path, {"a.png": PICTURES[0], "b.png": PICTURES[1], name: table})
    assert captions(dataset) == {"a.png": "one", "b.png": "two"}
    assert dataset.report.captions[0].what == "captions of 2 pictures"


@pytest.mark.parametrize(("named", "about"), [("Ann", "p"), ("Ann.png", "Ann"), ("gone.png", "p")])
def test_json_beside_a_photo_is_about_another_only_if_it_names_its_file(tmp_path: Path, named: str, about: str) -> None:
    told = json.dumps({"name": named, "caption": "Ann smiling"})
    found = captions(opened(tmp_path, {"p.png": PICTURES[0], "Ann.png": PICTURES[1], "p.json": told}))
    assert found == {"p.png": "TOK", "Ann.png": "TOK", f"{about}.png": "Ann smiling"}


def test_a_caption_that_begins_with_the_name_of_another_photo_stays_with_its_own(tmp_path: Path) -> None:
    files: Files = {"a.png": PICTURES[0], "b.png": PICTURES[1], "a.txt": "b.png, but blue"}
    assert captions(opened(tmp_path, files)) == {"a.png": "b.png, but blue", "b.png": "TOK"}


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "cp866", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_captions_in_any_encoding_are_read_and_a_guess_is_said(tmp_path: Path, encoding: str) -> None:
    files: Files = {f"p{n}.png": PICTURES[n] for n in range(4)}
    files |= {f"p{n}.txt": RUSSIAN.encode(encoding) for n in range(4)}
    dataset = opened(tmp_path, files)
    assert set(captions(dataset).values()) == {RUSSIAN.replace("[trigger]", "TOK")}
    warned = [line for line in dataset.report.warnings if "UTF-8" in line]
    assert len(warned) == (not encoding.startswith("utf"))
    assert all(f"read as {encoding}: p0.txt, p1.txt, p2.txt, p3.txt." in line for line in warned)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Zoë,  in a\r\ncafé \n", "cp1252"), ("Zoë, in a café", "latin-1"), ("赤いシャツを着た女性", "cp932"),
        ("穿红色衬衫的女人", "gb18030"), ("빨간 셔츠를 입은 여자", "cp949"),
        ("kobieta w żółtej koszuli, uśmiech", "cp1250"),
        ("πορτρέτο με κόκκινο", "cp1253"), ("портрет", "cp1251"), ("ภาพผู้หญิงสวมเสื้อสีแดง", "cp874"),
    ],
)  # fmt: skip
def test_one_short_caption_is_read_as_it_was_written(tmp_path: Path, text: str, encoding: str) -> None:
    dataset = opened(tmp_path, {"a.png": PICTURES[0], "a.txt": text.encode(encoding)})
    assert captions(dataset) == {"a.png": " ".join(text.split())}
    assert "a.txt" in said(dataset)


def test_files_of_two_encodings_are_each_read_in_its_own(tmp_path: Path) -> None:
    japanese = "赤いシャツを着た女性の写真、背景は青"
    texts = {"p0.txt": RUSSIAN.encode("cp1251"), "p1.txt": japanese.encode("cp932")}
    dataset = opened(tmp_path, {"p0.png": PICTURES[0], "p1.png": PICTURES[1], **texts})
    assert captions(dataset) == {"p0.png": RUSSIAN.replace("[trigger]", "TOK"), "p1.png": japanese}
    assert "read as cp1251: p0.txt." in said(dataset)
    assert "read as cp932: p1.txt." in said(dataset)


@pytest.mark.parametrize(
    "raw", [b"caf\x81 \x8d\x00", "TOK".encode("utf-16") + b"\x00", b"\xff\xfe\x00", b"\xff\xff\xff"]
)
def test_bytes_of_no_encoding_are_no_crash(tmp_path: Path, raw: bytes) -> None:
    for name in ("a.txt", "a.json", "a.csv", "a.jsonl"):
        assert "\0" not in captions(opened(tmp_path, {"a.png": PICTURES[0], name: raw}))["a.png"]


def test_a_long_text_is_cut_between_letters(tmp_path: Path) -> None:
    caption = captions(opened(tmp_path, {"a.png": PICTURES[0], "a.txt": "ё" * 60_000}))["a.png"]
    assert set(caption) == {"ё"}


@pytest.mark.parametrize("folder", ["reg/1_man", "regularization", "reg", "set/Regularisation_Images", "class_images"])
def test_regularisation_photos_are_not_trained_as_the_subject(tmp_path: Path, folder: str) -> None:
    files: Files = {f"img/10_ohwx man/p{n}.png": PICTURES[n] for n in range(2)}
    files |= {f"{folder}/r{n}.png": PICTURES[n + 2] for n in range(3)}
    files |= {f"{folder}/r0.txt": "a man", "meta.json": json.dumps({f"{folder}/r1.png": "a man", "p0": "TOK here"})}
    dataset = opened(tmp_path, files)
    assert captions(dataset) == {"img/10_ohwx man/p0.png": "TOK here", "img/10_ohwx man/p1.png": "TOK"}
    assert "holds regularisation photos (4 files)" in said(dataset)
    assert {where for name, where in listed(dataset).items() if folder in name} == {"dropped"}
    assert "No picture" not in said(dataset)


def test_photos_that_all_lie_in_such_a_folder_are_those_of_the_subject(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {"reg/a.png": PICTURES[0], "reg/a.txt": "[trigger] here", "notes.md": "x"})
    assert captions(dataset) == {"reg/a.png": "TOK here"}
    assert "All photos lie in reg" in said(dataset)


def test_sidecars_of_photo_services_are_passed_over_in_silence(tmp_path: Path) -> None:
    takeout = json.dumps({"title": "a.png", "description": "lunch", "photoTakenTime": {"timestamp": "1"}})
    files: Files = {f"{n}.png": PICTURES[n % 8] for n in range(8)}
    clean = opened(tmp_path, files).report.warnings
    sidecars = ["0.png.json", "0.json", "1.png.supplemental-metadata.json", "1.aae", "2.xmp", "2.THM", "Picasa.ini"]
    dataset = opened(tmp_path, {**files, **dict.fromkeys(sidecars, takeout)})
    assert dataset.report.warnings == clean
    assert {name: where for name, where in listed(dataset).items() if name in sidecars} == dict.fromkeys(
        sidecars, "ignored"
    )


def test_other_spellings_of_the_token_are_named(tmp_path: Path) -> None:
    files: Files = {"a.png": PICTURES[0], "a.txt": "[Trigger] here", "b.png": PICTURES[1], "b.txt": "{trigger} there"}
    dataset = opened(tmp_path, files)
    assert captions(dataset) == {"a.png": "TOK here", "b.png": "{trigger} there"}
    assert "{trigger} is trained as it stands, since only [trigger] is replaced: b.png." in dataset.report.warnings


def test_a_report_on_names_and_words_of_half_letters_can_be_written(tmp_path: Path) -> None:
    table = '{"a.png": "x\\ud83d", "z\\ud83d.png": "y", "w\\ud83d": 3}'
    dataset = opened(tmp_path, {"a.png": PICTURES[0], "t.json": table})
    assert json.loads(dataset.report.write(tmp_path / "report.json").read_text())["kept"][0]["caption"] == "x?"


def test_files_without_captions_say_why(tmp_path: Path) -> None:
    files: Files = {
        "a.json": "{}",
        "b.csv": "x",
        "c.jsonl": "no",
        "d.txt": " ",
        "e.json": "broken",
        "f.csv": "file_name,text\nz.png,x",
    }
    dataset = opened(tmp_path, {"p.png": PICTURES[0], "{}.csv": "file_name,text\np.png,x\np.png,y", **files})
    assert listed(dataset) == {"p.png": "kept", "{}.csv": "captions", **dict.fromkeys(files, "dropped")}
    assert {note.name: note.what for note in dataset.report.dropped}[
        "e.json"
    ] == "no captions are in it (it is not JSON)"
    assert "Of several captions in {}.csv the first is trained: p.png." in dataset.report.warnings
