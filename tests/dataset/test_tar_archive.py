"""Tar archives with the faults that they have: what is wrong with one member costs no other, and nothing is silent."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.archives import METHODS, TAR_FORMS, names, tarred, unpack

from tintype.errors import InvalidArchive

MEMBER = 7 * 512  # bytes that a file of `_tar_of` takes


def _tar_of(count: int) -> bytearray:
    """A tar of so many files of 3,000 bytes; each has a header and six blocks."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = 3000
            archive.addfile(info, io.BytesIO(bytes([number + 1]) * 3000))
    return bytearray(target.getvalue())


@pytest.mark.parametrize("damaged", [0, 1, 3])
@pytest.mark.parametrize("at", [1, 100, 130, 150, 400])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_damaged_header_in_a_tar_costs_only_its_file(
    tmp_path: Path, damaged: int, at: int, pack: Callable[[bytes], bytes]
) -> None:
    content = _tar_of(4)
    content[damaged * MEMBER + at] ^= 0x55
    (tmp_path / "a").write_bytes(pack(bytes(content)))
    found = unpack(tmp_path / "a", tmp_path / "out")
    assert [member.name for member in found if member.path] == [f"{n}.jpg" for n in range(4) if n != damaged]
    assert [member.reason for member in found if not member.path] == ["its entry in the archive is damaged"]
    assert at == 1 or f"{damaged}.jpg" in [member.name for member in found if not member.path]


def test_a_header_of_zeros_is_not_taken_for_the_end(tmp_path: Path) -> None:
    content = _tar_of(4)
    content[2 * MEMBER : 2 * MEMBER + 1024] = bytes(1024)
    (tmp_path / "a").write_bytes(content)
    found = unpack(tmp_path / "a", tmp_path / "out")
    assert [member.name for member in found if member.path] == ["0.jpg", "1.jpg", "3.jpg"]
    assert [member.state for member in found if not member.path] == ["left"]


@pytest.mark.parametrize("form", TAR_FORMS)
@pytest.mark.parametrize("behind", [b"", bytes(40_000), b"nothing of a tar " * 100])
def test_what_stands_behind_a_tar_costs_nothing(tmp_path: Path, form: str, behind: bytes) -> None:
    path = tarred(tmp_path / "a", {"a.jpg": b"x"}, TAR_FORMS[form])
    path.write_bytes(path.read_bytes() + behind)
    assert [member.name for member in unpack(path, tmp_path / "out")] == ["a.jpg"]


def test_tars_that_were_joined_are_one(tmp_path: Path) -> None:
    one, other = tarred(tmp_path / "a", {"a.jpg": b"x"}), tarred(tmp_path / "b", {"b.jpg": b"y"})
    one.write_bytes(one.read_bytes() + other.read_bytes())
    assert names(one, tmp_path) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("form", [form for form in TAR_FORMS if form != "tar"])
def test_the_checksum_of_a_packed_tar_is_read_before_anything_is_trained(tmp_path: Path, form: str) -> None:
    path = tarred(tmp_path / "a", {"a.jpg": bytes(3000)}, TAR_FORMS[form])
    content = bytearray(path.read_bytes())
    content[{"xz": -20}.get(form[-2:], -6)] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidArchive, match="damaged"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("length", [MEMBER + 100, MEMBER + 700, 2 * MEMBER - 5])
def test_a_tar_that_was_cut_off_is_not_taken_for_a_shorter_one(tmp_path: Path, length: int) -> None:
    (tmp_path / "a").write_bytes(_tar_of(4)[:length])
    with pytest.raises(InvalidArchive, match="cut off"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_a_tar_packed_by_zstandard_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(METHODS[93](bytes(_tar_of(3))))
    assert names(tmp_path / "a", tmp_path) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_name_of_half_characters_ends_nothing(tmp_path: Path) -> None:
    header = tarfile.TarInfo("\udcff\u00e9.jpg")
    with tarfile.open(tmp_path / "a", "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        archive.addfile(header)
        archive.addfile(tarfile.TarInfo("b\udce9.jpg"))
    assert len(names(tmp_path / "a", tmp_path)) == 2
