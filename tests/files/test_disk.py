"""A full disk is known for what it is, whoever says it, and room on it is asked for before anything is written."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tests.support.disk import leave_room

from tintype.errors import StorageFull
from tintype.files.disk import check_room, is_full, write_file, write_pieces, writing
from tintype.settings import MIB


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail] write failed: No space left on device"),
    ],
)
def test_a_full_disk_is_known_in_every_wording_and_behind_another_error(problem: Exception, tmp_path: Path) -> None:
    assert is_full(problem)
    outer = ValueError("could not be written")
    outer.__cause__ = problem
    assert is_full(outer)
    with pytest.raises(StorageFull, match="doctor"), writing(tmp_path):
        raise outer


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOENT, "No such file"),
        RuntimeError("space"),
        zipfile.BadZipFile("Bad CRC-32 for file 'No space left on device.jpg'"),  # a stranger's words prove nothing
        None,
    ],
)
def test_anything_else_is_not(problem: Exception | None) -> None:
    assert not is_full(problem)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_systems_own_full_device_is_one() -> None:
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:  # noqa: PT011
        full.write(b"x")
    assert is_full(caught.value)


def test_some_room_is_left_to_others_on_a_small_disk_a_twentieth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room(monkeypatch, 10 * MIB)
    check_room(tmp_path / "not there yet", 10 * MIB)
    with pytest.raises(StorageFull, match="266 MiB are free, 11 MiB are needed, and 256 MiB are left"):
        check_room(tmp_path, 10 * MIB + 1)
    leave_room(monkeypatch, 10 * MIB, total=100 * MIB, reserved=5 * MIB)
    check_room(tmp_path, 10 * MIB)
    with pytest.raises(StorageFull, match="5 MiB are left"):
        check_room(tmp_path, 10 * MIB + 1)


def test_what_fits_is_written_and_what_does_not_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_room(monkeypatch, 5)
    assert write_file(tmp_path / "a", "ä12").read_bytes() == b"\xc3\xa412"
    with pytest.raises(StorageFull):
        write_file(tmp_path / "b", b"123456")
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(StorageFull), (tmp_path / "c").open("wb") as file:
        write_pieces(file, (b"12345", b"123456"), tmp_path)
    assert (tmp_path / "c").read_bytes() == b"12345"
