"""Archives made by people who mean harm, and by people who do not know better."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import TAR_FORMS, names, tarred, unpack
from tests.support.images import archive_of, zipped

from tintype.dataset.archive import MIB, Limits, members
from tintype.dataset.bounded_stream import PIECE
from tintype.errors import Cancelled, FileTooLarge, InvalidArchive, TooManyFiles


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("form", TAR_FORMS)
def test_every_tar_form_opens_by_name_and_by_its_bytes(tmp_path: Path, form: str, named: bool) -> None:
    path = tarred(tmp_path / "a", {"one.jpg": b"1", "in/two.jpg": b"2"}, TAR_FORMS[form])
    assert names(path, tmp_path, form if named else None) == ["one.jpg", "in/two.jpg"]


def test_a_zip_opens_whatever_its_file_is_called(tmp_path: Path) -> None:
    assert names(zipped(tmp_path / "photos.bin", {"one.jpg": b"1"}), tmp_path) == ["one.jpg"]


def test_junk_that_computers_leave_in_archives_is_passed_over_but_not_forgotten(tmp_path: Path) -> None:
    junk = ["__MACOSX/._a.jpg", ".DS_Store", "in/Thumbs.db", "desktop.ini", ".hidden/x.jpg", "._a.jpg"]
    path = zipped(tmp_path / "a.zip", dict.fromkeys([*junk, "a.jpg"], b"x"))
    assert names(path, tmp_path) == ["a.jpg"]
    assert names(path, tmp_path, state="junk") == junk


def test_files_come_out_one_at_a_time(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jpg": b"x", "b.jpg": b"y"})
    coming: Any = members(path, tmp_path / "out")
    first = next(coming)
    assert first.path is not None
    assert first.path.read_bytes() == b"x"
    assert len(list((tmp_path / "out").iterdir())) == 1
    coming.close()


def test_names_in_utf8_without_the_flag_that_says_so_are_read_right(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"Zo\u00eb.jpg": b"x"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", raw, raw.index(signature) + offset, 0)
    path.write_bytes(raw)
    assert names(path, tmp_path) == ["Zo\u00eb.jpg"]


def test_names_cannot_break_a_line_or_fill_a_page(tmp_path: Path) -> None:
    found = names(tarred(tmp_path / "a", {"a\nINFO all is well.jpg": b"x", "b" * 3000 + ".jpg": b"x"}), tmp_path)
    assert all("\n" not in name and len(name) < 300 and name.endswith(".jpg") for name in found)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "in/../../a.jpg", "..\\a.jpg", "C:\\a.jpg"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_that_points_outside_ends_the_request_and_writes_nothing(tmp_path: Path, name: str, make: Any) -> None:
    folder = tmp_path / "deep" / "out"
    with pytest.raises(InvalidArchive, match="outside"):
        unpack(make(tmp_path / "a", {name: b"x"}), folder)
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "deep"]


def test_links_and_devices_are_never_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in [("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE), ("d.jpg", tarfile.CHRTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert names(path, tmp_path) == []
    assert names(path, tmp_path, state="left") == ["l.jpg", "h.jpg", "d.jpg"]


def test_a_link_in_a_zip_is_left_out(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("l.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert names(tmp_path / "a.zip", tmp_path, state="left") == ["l.jpg"]


@pytest.mark.parametrize("form", TAR_FORMS)
def test_an_archive_inside_the_archive_stays_closed_whatever_it_is_called(tmp_path: Path, form: str) -> None:
    inner = tarred(tmp_path / "inner", {"b.jpg": b"y"}, TAR_FORMS[form]).read_bytes()
    packed = {"more": inner, "a.jpg": b"x", "b.jpg": archive_of({"c.jpg": b"z"}), "c.zip": b"no archive"}
    path = tarred(tmp_path / "a", packed, TAR_FORMS[form])
    assert names(path, tmp_path, state="left") == ["more", "b.jpg"]
    assert names(path, tmp_path) == ["a.jpg", "c.zip"]


def test_a_member_without_a_name_is_passed_over(tmp_path: Path) -> None:
    assert names(tarred(tmp_path / "a.tar", {".": b"x", "./a.jpg": b"y"}), tmp_path) == ["a.jpg"]


def test_a_locked_zip_says_that_it_is_locked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jpg": b"x"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", raw, raw.index(signature) + offset, 1)
    path.write_bytes(raw)
    with pytest.raises(InvalidArchive, match="password"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK", b"just text", b"\x1f\x8b\x08 no gzip", b"\xfd7zXZ\x00\x00"])
@pytest.mark.parametrize("form", [None, "zip", "tar.gz"])
def test_what_is_no_archive_is_a_sentence_and_not_a_crash(tmp_path: Path, content: bytes, form: str | None) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InvalidArchive) as caught:
        unpack(tmp_path / "a", tmp_path / "out", form=form)
    told = caught.value.details[0]
    assert told["type"] == "invalid_archive"
    assert ".zip" in told["ctx"]["supported_extensions"]


def test_a_truncated_archive_is_invalid(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", {f"{n}.jpg": bytes(range(256)) * 40 for n in range(5)}).read_bytes()
    (tmp_path / "b.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidArchive, match=r"zip archive is damaged or was cut off.*its end is missing") as caught:
        unpack(tmp_path / "b.zip", tmp_path / "out")
    assert "\n" not in caught.value.message
    packed = tarred(tmp_path / "a.tgz", {"a.jpg": bytes(range(256)) * 4000}, "w:gz").read_bytes()
    (tmp_path / "b.tgz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InvalidArchive, match="tar archive is damaged or was cut off") as caught:
        unpack(tmp_path / "b.tgz", tmp_path / "out2")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"Rar!\x1a\x07\x01", "RAR"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"<!doctype html>", "web page"),
        (b"\xef\xbb\xbf\r\n<HTML>", "web page"),
        (b"<?xml version='1.0'?><Error>", "XML"),
        (b'{"detail": "expired"}', "JSON"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-LFS pointer"),
        (b'\x40\0\0\0\0\0\0\0{"__metadata__":{}}', "safetensors"),
        (b"UEsDBBQAAAAI", "Base64"),
        (gzip.compress(b"\xff\xd8\xff" * 300, mtime=0), "gzip"),
        (b"", "empty"),
    ],
)
def test_what_was_sent_instead_of_an_archive_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a").write_bytes(content)
    for form in (None,) if what == "gzip" else (None, "zip", "tar"):
        with pytest.raises(InvalidArchive, match=what) as caught:
            unpack(tmp_path / "a", tmp_path / "out", form=form)
        assert len(caught.value.message.split(". ")) > 1, "what to do is said"


def test_a_format_that_is_not_the_files_own_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match="says tar, but the file is a zip"):
        unpack(zipped(tmp_path / "a.zip", {"a.jpg": b"x"}), tmp_path / "out", form="tar")


def test_a_bomb_is_noticed_while_unpacking(tmp_path: Path) -> None:
    limits = Limits(free_growth_bytes=100_000, growth_factor=10)
    path = zipped(tmp_path / "a.zip", {"a.jpg": b"\0" * 10_000_000})
    with pytest.raises(InvalidArchive, match="far larger"):
        unpack(path, tmp_path / "out", limits=limits)
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) < 1_000_000


def test_too_many_and_too_large_say_the_limit(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"{n}.jpg": b"12345" for n in range(4)})
    with pytest.raises(TooManyFiles) as many:
        unpack(path, tmp_path / "out", limits=Limits(files=3))
    assert many.value.details[0]["ctx"] == {"max_count": 3, "provided_count": 4}
    with pytest.raises(FileTooLarge) as large:
        unpack(path, tmp_path / "out", limits=Limits(file_bytes=4))
    assert large.value.details[0]["ctx"] == {"max_size": 4}


def _header_of(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _with_long_header(kind: bytes, size: int) -> Callable[[Path], None]:
    """A tar that says of its next name, link or settings that they take `size` bytes, and holds that many zeros."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            assert archive.fileobj is not None
            archive.fileobj.write(_header_of(kind, size))
            for _ in range(size // (1 << 20)):
                archive.fileobj.write(bytes(1 << 20))
            archive.addfile(tarfile.TarInfo("a.jpg"))

    return write


def _with_chained_headers(path: Path) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 70_000}) as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))


def _with_many_headers(path: Path) -> None:
    """A chain of headers of which each is short."""
    with tarfile.open(path, "w:gz") as archive:
        assert archive.fileobj is not None
        for _ in range(10_000):
            archive.fileobj.write(_header_of(tarfile.GNUTYPE_LONGNAME, 512) + b"n" * 512)
        archive.addfile(tarfile.TarInfo("a.jpg"))


def _with_long_sparse_map(path: Path) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.jpg")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
        content = b"9999999\n" + b"0\n" * 5_000_000
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    "write",
    [
        _with_long_header(tarfile.GNUTYPE_LONGNAME, 64 << 20),
        _with_long_header(tarfile.GNUTYPE_LONGLINK, 64 << 20),
        _with_long_header(tarfile.XHDTYPE, 64 << 20),
        _with_long_header(tarfile.XGLTYPE, 64 << 20),
        _with_chained_headers,
        _with_many_headers,
        _with_long_sparse_map,
    ],
)
def test_a_header_is_never_kept_in_memory_however_long_it_says_it_is(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "a.tgz")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArchive, match="header"):
            unpack(tmp_path / "a.tgz", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [".hidden", "in/.hidden.jpg", "__MACOSX/a.jpg", "more.zip"])
@pytest.mark.parametrize("form", TAR_FORMS)
def test_what_is_left_out_counts_towards_the_size(tmp_path: Path, form: str, name: str) -> None:
    path = tarred(tmp_path / "a", {name: bytes(10 * MIB), "a.jpg": b"x"}, TAR_FORMS[form])
    limits = Limits(free_growth_bytes=MIB, growth_factor=10 if form != "tar" else 0)
    with pytest.raises(InvalidArchive, match="far larger"):
        unpack(path, tmp_path / "out", limits=limits)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["a.jpg", ".hidden"])
def test_an_end_is_heard_while_a_large_member_is_read_or_passed_over(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    path = make(tmp_path / "a", {name: bytes(50 * PIECE), "b.jpg": bytes(50 * PIECE)})
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 10:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(members(path, tmp_path / "out", check=check))
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) < 20 * PIECE


def _folders_in_zip(path: Path, count: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}/", b"")
    return path


def _folders_in_tar(path: Path, count: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}")
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [_folders_in_zip, _folders_in_tar])
def test_folders_count_too(tmp_path: Path, make: Callable[[Path, int], Path]) -> None:
    with pytest.raises(TooManyFiles):
        unpack(make(tmp_path / "a", 100), tmp_path / "out", limits=Limits(files=10))


def test_a_long_list_of_members_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", dict.fromkeys((f"{number:0200d}/" for number in range(19_000)), b""))
    assert path.stat().st_size > 4 * MIB
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArchive, match="list of what"):
            unpack(path, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
