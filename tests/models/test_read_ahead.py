"""Reading ahead reads what is there, ends with its context, and never is the reason that something fails."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil

from tintype.models.read_ahead import read_ahead

SIZE = 40 * 2**20


def read_so_far() -> int:
    return int(psutil.Process().io_counters().read_chars)


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_all_files_are_read_meanwhile(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"part-{part}.safetensors").write_bytes(bytes(SIZE // 2))
    before, deadline = read_so_far(), time.monotonic() + 60
    with read_ahead(tmp_path):
        while read_so_far() - before < SIZE:
            assert time.monotonic() < deadline, "the files were not read"
            time.sleep(0.01)
    assert "read-ahead" not in names()


def test_whoever_is_done_sooner_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    huge = tmp_path / "part.safetensors"
    with huge.open("wb") as file:
        file.truncate(psutil.virtual_memory().available // 4)  # a hole: takes no room on the disk
    before = read_so_far()
    with read_ahead(tmp_path):
        pass
    assert "read-ahead" not in names()
    assert read_so_far() - before < huge.stat().st_size


def test_nothing_is_read_that_memory_has_no_room_for(tmp_path: Path) -> None:
    with (tmp_path / "part.safetensors").open("wb") as file:
        file.truncate(psutil.virtual_memory().available)
    before = read_so_far()
    with read_ahead(tmp_path):
        time.sleep(0.2)
    assert read_so_far() - before < SIZE


def test_a_folder_without_weights_or_a_broken_link_is_no_error(tmp_path: Path) -> None:
    with read_ahead(tmp_path / "nowhere"):
        pass
    (tmp_path / "part.safetensors").mkdir()
    with read_ahead(tmp_path):
        pass
    assert "read-ahead" not in names()
