"""Names in archives: decoded by one rule where their encoding is not said, whole as identities, shown in one line."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.support.archives import RawMember, raw_zip, unpack

from tintype.dataset.names import is_junk, regularisation_folder
from tintype.errors import InvalidArchive

NAMES = {
    "cp932": ["写真.png", "表.png", "ソ.png", "表/ソ.txt"],  # 表 and ソ end in 0x5C, a backslash
    "gb18030": ["照片1.jpg", "小红/照片2.jpg"],
    "big5": ["照片1.jpg", "相片.jpg", "許功蓋.jpg"],  # 許, 功 and 蓋 end in 0x5C
    "cp949": ["사진1.jpg", "민지.jpg"],
    "cp866": ["фото1.jpg", "Маша/фото2.jpg"],
    "cp1251": ["портрет 1.jpg", "Маша.jpg"],
    "koi8-r": ["портрет 1.jpg", "Маша.jpg"],
    "cp737": ["φωτογραφία1.jpg", "Μαρία.jpg"],
    "cp1253": ["φωτογραφία1.jpg", "Μαρία.jpg"],
    "cp850": ["Zoë.jpg", "été/Müller.jpg"],
    "cp852": ["zdjęcie.jpg", "Łódź.jpg"],
    "cp862": ["תמונה.jpg"],
    "cp1256": ["صورة.jpg"],
    "cp874": ["ภาพถ่าย.jpg"],
    "utf-8": ["Zoë.jpg", "写真.jpg", "фото.jpg"],
}


def zip_of(path: Path, names: Iterable[bytes], extra: bytes = b"", flags: int = 0) -> Path:
    path.write_bytes(raw_zip([RawMember(name, extra=extra, flags=flags) for name in names]))
    return path


def raw_tar(path: Path, names: list[bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return path


@pytest.mark.parametrize("encoding", NAMES)
def test_names_without_an_encoding_are_read_as_they_were_written(tmp_path: Path, encoding: str) -> None:
    raw = [name.encode(encoding) for name in NAMES[encoding]]
    tars = [raw_tar(tmp_path / f"{form}.tgz", raw, form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    if encoding == "utf-8":
        assert unpack(tars.pop(), tmp_path / "pax")[0].encoding is None
    for number, path in enumerate([zip_of(tmp_path / "a.zip", raw), *tars]):
        found = unpack(path, tmp_path / str(number))
        assert [member.name for member in found] == NAMES[encoding]
        assert {member.name.encode(str(member.encoding)) for member in found} == set(raw)


def test_all_names_are_read_in_one_encoding_though_some_would_pass_as_another(tmp_path: Path) -> None:
    alone = "ﾃ･".encode("cp932")  # å in UTF-8, as it happens
    assert [m.name for m in unpack(zip_of(tmp_path / "a", [alone]), tmp_path / "1")] == ["å"]
    names = [alone, *(name.encode("cp932") for name in NAMES["cp932"])]
    for number, path in enumerate((zip_of(tmp_path / "a", names), raw_tar(tmp_path / "b", names))):
        assert [m.name for m in unpack(path, tmp_path / f"all {number}")] == ["ﾃ･", *NAMES["cp932"]]


@pytest.mark.parametrize("name", ["Åsa.jpg", "òà.jpg", "łza.jpg", "пс.jpg", "ѐ.jpg"])
@pytest.mark.parametrize("spelt", ["jsonl", "csv", "json"])
def test_a_metadata_file_that_spells_the_names_out_decides(tmp_path: Path, name: str, spelt: str) -> None:
    table = {
        "jsonl": json.dumps({"file_name": name, "text": "x"}).encode(),
        "csv": f"file_name,text\n{name},x\n".encode("utf-16"),
        "json": json.dumps({name.removesuffix(".jpg"): {"caption": "x"}}, ensure_ascii=False).encode(),
    }[spelt]
    for encoding in ("cp1252", "cp850", "cp1250", "cp1251", "cp866", "koi8-r", "cp852", "mac-roman"):
        try:
            raw = name.encode(encoding)
        except UnicodeEncodeError:
            continue
        path = tmp_path / encoding
        path.write_bytes(raw_zip([RawMember(raw), RawMember(b"sub/metadata." + spelt.encode(), table)]))
        assert unpack(path, tmp_path / f"out {encoding}")[0].name == name


def test_a_declared_name_is_taken_at_its_word(tmp_path: Path) -> None:
    raw = "表.png".encode("cp932")
    true = "写真.png".encode()
    field = struct.pack("<HHBI", 0x7075, 5 + len(true), 1, zlib.crc32(raw)) + true
    assert [m.name for m in unpack(zip_of(tmp_path / "a", [raw], field), tmp_path)] == ["写真.png"]
    assert unpack(zip_of(tmp_path / "b", [true], flags=0x800), tmp_path)[0].encoding is None
    changed = struct.pack("<HHBI", 0x7075, 5 + len(true), 1, 1) + true  # made for another name
    assert [m.name for m in unpack(zip_of(tmp_path / "c", [raw], changed), tmp_path)] == ["表.png"]


def test_bytes_of_no_encoding_are_names_still_each_its_own(tmp_path: Path) -> None:
    raw = [b"\xff\xfe\x81.jpg", b"\xff\xfe\x8d.jpg", "写真.jpg".encode("cp932"), "Маша.jpg".encode("koi8-r")]
    found = unpack(zip_of(tmp_path / "a", raw), tmp_path)
    assert len({member.name for member in found}) == 4
    assert all(member.name.endswith(".jpg") and member.name.isprintable() for member in found)


def test_a_name_that_points_outside_is_seen_behind_its_encoding(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match="outside"):
        unpack(zip_of(tmp_path / "a", ["表/../../ソ.png".encode("cp932")]), tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "a.jpg", "a (2).jpg"],
        [f"{'b' * 200}{n}{'b' * 200}.jpg" for n in range(3)],
        [f"in/{'ł' * 200}{n}{'ł' * 200}.jpg" for n in range(3)],
        ["c\n.jpg", "c\t.jpg", "c\ufffd.jpg"],
        [".", "./", "in"],
    ],
)
def test_no_two_members_are_shown_by_one_name_and_each_keeps_its_own(tmp_path: Path, names: list[str]) -> None:
    found = unpack(raw_tar(tmp_path / "a", [name.encode() for name in names]), tmp_path)
    assert len({member.name for member in found}) == len(names)
    assert [member.identity for member in found] == [str(Path(name)) for name in names]
    assert all(len(member.name) < 260 and member.name.isprintable() for member in found)


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1.AAE", "IMG_1.xmp", "MVI_1.THM", "Picasa.ini", "in/desktop.ini", "IMG_1.jpg.supplemental-metadata.json",
        "IMG_1.jpg.supplemental-meta.json", "IMG_1.jpg.suppl(1).json", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "print-subscriptions.json", "a.jpg.dop", ".picasa.ini", "$RECYCLE.BIN/a.jpg", "ZbThumbnail.info",
    ],
)  # fmt: skip
def test_what_photo_services_leave_behind_is_junk(name: str) -> None:
    assert is_junk(name)


@pytest.mark.parametrize(
    "name", ["a.jpg", "in/xmp.jpg", "supplemental.json", "thm.txt", "desktop.ini.png", "aae/b.jpg"]
)
def test_a_photo_with_such_letters_in_its_name_is_no_junk(name: str) -> None:
    assert not is_junk(name)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("reg/1_man/r.png", "reg"), ("set/Regularization/r.png", "set/Regularization"), ("reg/r.png", "reg"),
        ("regularisation_images/r.png", "regularisation_images"), ("data/reg_woman/r.png", "data/reg_woman"),
        ("1_reg/r.png", "1_reg"), ("class_images/r.png", "class_images"), ("k/reg-images/r.png", "k/reg-images"),
        ("reg.png", None), ("img/10_ohwx man/p.png", None), ("regina/p.png", None), ("Regensburg/p.png", None),
        ("class/p.png", None), ("10_reg man/p.png", None),
    ],
)  # fmt: skip
def test_folders_of_regularisation_photos_are_known_by_name(name: str, folder: str | None) -> None:
    assert regularisation_folder(name) == folder
