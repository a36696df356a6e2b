"""Zip archives of many programs, with the faults that they have: what is wrong with one member costs no other."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.archives import METHODS, RawMember, raw_zip

from tintype.dataset.archive import MIB, Limits, members
from tintype.errors import InvalidArchive

GOOD = [RawMember(f"p{n}.png".encode(), bytes(range(256)) * 40 + bytes([n])) for n in range(4)]
CONTENT = {member.name.decode(): member.content for member in GOOD}


def unpacked(tmp_path: Path, archive: bytes, limits: Limits | None = None) -> tuple[dict[str, bytes], dict[str, str]]:
    """What came out, and why the rest did not."""
    (tmp_path / "a").write_bytes(archive)
    read, left = {}, {}
    for member in members(tmp_path / "a", tmp_path / "out", limits=limits):
        if member.path is None:
            left[member.name] = member.reason
        else:
            read[member.name] = member.path.read_bytes()
            member.path.unlink()
    assert list((tmp_path / "out").iterdir()) == [], "what could not be read is gone"
    return read, left


def but(name: str) -> dict[str, bytes]:
    return {other: content for other, content in CONTENT.items() if other != name}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_compression_is_read(tmp_path: Path, method: int) -> None:
    assert unpacked(tmp_path, raw_zip([replace(one, method=method) for one in GOOD])) == (CONTENT, {})


def test_what_is_not_what_its_method_says_is_named_with_the_way_out(tmp_path: Path) -> None:
    for method, said in ((9, "Deflate64"), (93, "Zstandard"), (14, "LZMA")):
        _, left = unpacked(
            tmp_path, raw_zip([replace(GOOD[0], method=method, packed=b"\x89PNG\r\n\x1a\n" + bytes(99))])
        )
        assert said in left["p0.png"]
        assert "pack the photos again" in left["p0.png"]


@pytest.mark.parametrize(("method", "said"), [(98, "PPMd"), (6, "Implode"), (97, "WavPack"), (77, "method 77")])
def test_a_method_that_is_not_read_is_named_with_the_way_out(tmp_path: Path, method: int, said: str) -> None:
    read, left = unpacked(tmp_path, raw_zip([replace(GOOD[0], method=method), *GOOD[1:]]))
    assert read == but("p0.png")
    assert said in left["p0.png"]
    assert ".zip" in left["p0.png"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", ["checksum", "cut", "changed", "empty"])
def test_a_damaged_member_costs_only_itself(tmp_path: Path, method: int, fault: str) -> None:
    packed = METHODS[method](GOOD[2].content)
    changes = {
        "checksum": {"checksum": zlib.crc32(GOOD[2].content) ^ 1},
        "cut": {"packed": packed[: len(packed) // 2]},
        "changed": {"packed": packed[:40] + bytes([packed[40] ^ 0x55]) + packed[41:]},
        "empty": {"packed": b""},
    }
    bad = replace(GOOD[2], method=method, **changes[fault])  # type: ignore[arg-type]
    read, left = unpacked(tmp_path, raw_zip([*GOOD[:2], bad, GOOD[3]]))
    assert read == but("p2.png")
    assert "damaged" in left["p2.png"]


@pytest.mark.parametrize(
    "own_name", [b"a\\p1.png", b"/p1.png", b"P1.PNG", b"", b"p\xff\x85.png", b"a longer one altogether.png"]
)
@pytest.mark.parametrize("flags", [0, 0x800])
def test_the_name_before_a_member_does_not_matter(tmp_path: Path, own_name: bytes, flags: int) -> None:
    odd = replace(GOOD[1], own_name=own_name, flags=flags)
    assert unpacked(tmp_path, raw_zip([GOOD[0], odd, *GOOD[2:]])) == (CONTENT, {})


def test_slashes_that_differ_everywhere_are_read(tmp_path: Path) -> None:
    mixed = [replace(one, name=b"a/" + one.name, own_name=b"a\\" + one.name) for one in GOOD]
    assert unpacked(tmp_path, raw_zip(mixed)) == ({f"a/{name}": content for name, content in CONTENT.items()}, {})


@pytest.mark.parametrize(
    "extra",
    [b"\1", b"\1\0\xff\xff", b"\1\0\x08\0", b"\1\0\x04\0\0\0\0\0", b"UT\x09\0\1", b"up\x05\0\1aaaa", b"\xff" * 40],
)
@pytest.mark.parametrize("where", ["extra", "own_extra"])
def test_extra_fields_that_make_no_sense_cost_nothing(tmp_path: Path, extra: bytes, where: str) -> None:
    odd = replace(GOOD[1], **{where: extra})  # type: ignore[arg-type]
    assert unpacked(tmp_path, raw_zip([GOOD[0], odd, *GOOD[2:]])) == (CONTENT, {})


def test_numbers_and_names_in_extra_fields_are_used(tmp_path: Path) -> None:
    name = "Zoë.png".encode()
    extra = struct.pack("<HHBL", 0x7075, 5 + len(name), 1, zlib.crc32(b"Zo_.png")) + name
    named = replace(GOOD[0], name=b"Zo_.png", extra=extra)
    large = bytearray(raw_zip([named, replace(GOOD[1], extra=struct.pack("<HHQQ", 1, 16, len(GOOD[1].content), 0))]))
    entry = large.rindex(b"PK\1\2")
    offset = large[entry + 42 : entry + 46]
    large[entry + 20 : entry + 28] = b"\xff" * 8  # both sizes stand in the extra field
    packed_bytes = len(GOOD[1].content).to_bytes(8, "little")
    large[-22 - 8 : -22] = packed_bytes
    assert offset
    assert unpacked(tmp_path, bytes(large))[0] == {"Zoë.png": GOOD[0].content, "p1.png": GOOD[1].content}


@pytest.mark.parametrize(
    "around",
    [
        {"before": b"MZ" + bytes(5000)},
        {"before": b"\xef\xbb\xbf"},
        {"before": b"\r\n"},
        {"comment": b"photos of last summer"},
        {"comment": b"x" * 65_535},
        {"after": b"\r\n"},
        {"after": bytes(2000)},
        {"between": b"PK\5\5\x04\0sign"},
        {"between": bytes(100)},
    ],
    ids=str,
)  # fmt: skip
def test_what_stands_around_the_members_costs_nothing(tmp_path: Path, around: dict[str, bytes]) -> None:
    assert unpacked(tmp_path, raw_zip(GOOD, **around)) == (CONTENT, {})


def test_a_member_that_is_not_where_it_should_be_costs_only_itself(tmp_path: Path) -> None:
    for shift in (-5, 7, 1 << 30):
        read, left = unpacked(tmp_path, raw_zip([*GOOD[:3], replace(GOOD[3], shift=shift)]))
        assert read == but("p3.png")
        assert "damaged" in left["p3.png"]


def test_an_archive_without_its_first_bytes_loses_only_what_was_there(tmp_path: Path) -> None:
    read, left = unpacked(tmp_path, raw_zip(GOOD)[100:])
    assert read == but("p0.png")
    assert "damaged" in left["p0.png"]


@pytest.mark.parametrize("folder", [RawMember(b"in\\", b""), RawMember(b"in", b"", attributes=0x10), RawMember(b"in/")])
def test_folders_are_none_of_the_files_however_they_are_written(tmp_path: Path, folder: RawMember) -> None:
    assert unpacked(tmp_path, raw_zip([folder, *GOOD])) == (CONTENT, {})


def test_a_locked_member_among_open_ones_is_left_out(tmp_path: Path) -> None:
    read, left = unpacked(tmp_path, raw_zip([replace(GOOD[0], flags=1), *GOOD[1:]]))
    assert read == but("p0.png")
    assert "password" in left["p0.png"]


@pytest.mark.parametrize("at", [4, 28, 40])
def test_a_damaged_list_is_refused_and_never_half_read(tmp_path: Path, at: int) -> None:
    archive = bytearray(raw_zip(GOOD))
    archive[archive.index(b"PK\1\2", archive.index(b"PK\1\2") + 4) + at % 40] ^= 0x55
    if at == 4:
        assert unpacked(tmp_path, bytes(archive))[0] == CONTENT  # by which program it was made
    else:
        with pytest.raises(InvalidArchive, match="damaged"):
            unpacked(tmp_path, bytes(archive))


def test_one_part_of_a_split_archive_is_called_so(tmp_path: Path) -> None:
    archive = bytearray(raw_zip(GOOD))
    archive[archive.rindex(b"PK\5\6") + 4] = 2
    with pytest.raises(InvalidArchive, match="split"):
        unpacked(tmp_path, bytes(archive))


@pytest.mark.parametrize("method", [method for method in METHODS if method])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_bomb_is_noticed_by_what_comes_out_and_takes_no_memory(tmp_path: Path, method: int, wrong: bool) -> None:
    zeros = bytes(6 * MIB)
    bomb = RawMember(b"0.jpg", zeros, method=method, packed=METHODS[method](zeros), checksum=1 if wrong else None)
    (tmp_path / "a").write_bytes(raw_zip([bomb] * 3))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArchive, match="far larger"):
            list(members(tmp_path / "a", tmp_path / "out", limits=Limits(free_growth_bytes=16 * MIB, growth_factor=0)))
        assert tracemalloc.get_traced_memory()[1] < 9 * MIB
    finally:
        tracemalloc.stop()


def test_lzma_that_wants_much_memory_is_left_out(tmp_path: Path) -> None:
    packed = bytearray(METHODS[14](GOOD[0].content))
    packed[5:9] = (1 << 31).to_bytes(4, "little")
    read, left = unpacked(tmp_path, raw_zip([replace(GOOD[0], method=14, packed=bytes(packed)), *GOOD[1:]]))
    assert read == but("p0.png")
    assert "memory" in left["p0.png"]
