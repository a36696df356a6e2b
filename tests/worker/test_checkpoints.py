"""Checkpoints survive kills, and late writers cannot hurt their successors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tintype.errors import LeaseLost, StorageFull
from tintype.worker.checkpoints import FolderCheckpoints


def writes(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "state").write_text(text)


def test_the_newest_complete_checkpoint_is_found_by_the_next_attempt(tmp_path: Path) -> None:
    first = FolderCheckpoints(tmp_path / "c", token=1)
    assert first.latest() is None
    for step in (5, 10, 100):
        first.save(step, writes(str(step)))

    found = FolderCheckpoints(tmp_path / "c", token=2).latest()

    assert found is not None
    assert (found.step, (found.path / "state").read_text()) == (100, "100")


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path / "c")
    for step in (1, 2, 3, 4):
        store.save(step, writes(str(step)))
    assert sorted(entry.name for entry in (tmp_path / "c").iterdir() if entry.is_dir()) == ["00000003", "00000004"]


def test_a_checkpoint_that_failed_half_way_is_never_found(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path / "c")
    store.save(1, writes("good"))

    def breaks(folder: Path) -> None:
        (folder / "state").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.save(2, breaks)

    found = store.latest()
    assert found is not None
    assert found.step == 1
    assert [entry.name for entry in (tmp_path / "c").glob("new-*")] == []


def test_a_full_disk_is_called_that_and_leaves_nothing_half(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path / "c")

    def breaks(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageFull, match="tintype doctor"):
        store.save(1, breaks)
    assert list((tmp_path / "c").glob("new-*")) == []


def test_a_kill_in_the_middle_of_a_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    FolderCheckpoints(tmp_path / "c", token=1).save(7, writes("old"))
    program = (
        "import os, signal, sys; from pathlib import Path; from tintype.worker.checkpoints import FolderCheckpoints\n"
        "def dies(folder):\n"
        "    (folder / 'state').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "FolderCheckpoints(Path(sys.argv[1]), token=2).save(8, dies)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "c")], check=False)
    assert killed.returncode == -signal.SIGKILL

    successor = FolderCheckpoints(tmp_path / "c", token=3)

    found = successor.latest()
    assert found is not None
    assert (found.step, (found.path / "state").read_text()) == (7, "old")
    assert not list((tmp_path / "c").glob("new-*"))


def test_a_late_writer_neither_publishes_nor_removes_what_its_successor_reads(tmp_path: Path) -> None:
    late = FolderCheckpoints(tmp_path / "c", token=1)
    late.save(1, writes("1"))
    late.save(2, writes("2"))
    successor = FolderCheckpoints(tmp_path / "c", token=2)
    reads = successor.latest()

    with pytest.raises(LeaseLost):
        late.save(3, writes("late"))
    with pytest.raises(LeaseLost):
        FolderCheckpoints(tmp_path / "c", token=1)

    assert reads is not None
    assert os.listdir(reads.path) == ["state"]
    assert successor.latest() == reads


def test_a_writer_whose_request_has_ended_does_not_bring_its_folder_back(tmp_path: Path) -> None:
    import shutil

    store = FolderCheckpoints(tmp_path / "c", token=1)
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(LeaseLost):
        store.save(1, writes("late"))
    assert not (tmp_path / "c").exists()


def test_saving_one_step_twice_keeps_what_is_safe_already(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path / "c")
    store.save(4, writes("first"))
    again = store.save(4, writes("second"))
    assert (again.path / "state").read_text() == "first"


def test_each_published_step_is_reported(tmp_path: Path) -> None:
    told: list[int] = []
    FolderCheckpoints(tmp_path / "c", 0, told.append).save(9, writes("x"))
    assert told == [9]
