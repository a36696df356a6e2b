"""Checkpoints survive kills and machines, and late writers cannot hurt their successors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tests.support.s3 import running_bucket

from tintype.errors import LeaseLost, StorageFull
from tintype.files.checkpoints import ObjectCheckpoints, open_checkpoints, remove_work, work_of_requests
from tintype.files.objects import Objects
from tintype.settings import Settings, load_settings


def writes(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "state").write_text(text)


def read(store: ObjectCheckpoints) -> tuple[int, str] | None:
    found = store.latest()
    return None if found is None else (found.step, (found.path / "state").read_text())


@pytest.fixture(scope="module")
def bucket_url() -> Iterator[str]:
    with running_bucket() as bucket, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.environment.items():
            patch.setenv(name, value)
        yield bucket.url


class Machines:
    """Attempts at one request: on one machine, or each on a machine of its own with the same storage."""

    def __init__(self, storage: str, folder: Path, *, apart: bool) -> None:
        self.storage, self.folder, self.apart = storage, folder, apart

    def attempt(self, token: int = 0, saved: Callable[[int], None] = lambda step: None) -> ObjectCheckpoints:
        place = self.folder / (f"machine-{token}" if self.apart else "machine") / "checkpoints"
        return ObjectCheckpoints(Objects.open(self.storage), "r", place, token, saved)

    @property
    def kept(self) -> list[str]:
        return sorted(key.partition("/")[2] for key in Objects.open(self.storage).under("r"))


@pytest.fixture(params=["folder", "shared folder", "bucket"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Machines:
    if request.param == "bucket":
        url = f"{request.getfixturevalue('bucket_url')}/{tmp_path.name}"
        return Machines(url, tmp_path, apart=True)
    return Machines(str(tmp_path / "objects"), tmp_path, apart=request.param == "shared folder")


def test_the_newest_complete_checkpoint_is_found_by_the_next_attempt(machines: Machines) -> None:
    first = machines.attempt(1)
    assert first.latest() is None
    for step in (5, 10, 100):
        first.save(step, writes(str(step)))
    assert read(machines.attempt(2)) == (100, "100")


def test_the_two_newest_are_kept(machines: Machines) -> None:
    store = machines.attempt(1)
    for step in (1, 2, 3, 4):
        store.save(step, writes(str(step)))
    assert machines.kept == ["3-1-0", "3-1.json", "4-1-0", "4-1.json", "owner-1"]


def test_a_checkpoint_that_failed_half_way_is_never_found(machines: Machines) -> None:
    store = machines.attempt()
    store.save(1, writes("good"))

    def breaks(folder: Path) -> None:
        (folder / "state").write_text("half")
        raise OSError("it broke")

    with pytest.raises(OSError, match="it broke"):
        store.save(2, breaks)

    assert read(store) == (1, "good")
    assert list(machines.folder.rglob("new-*")) == []


def test_a_full_disk_is_called_that_and_leaves_nothing_half(machines: Machines) -> None:
    store = machines.attempt()

    def breaks(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageFull, match="tintype doctor"):
        store.save(1, breaks)
    assert list(machines.folder.rglob("new-*")) == []
    assert store.latest() is None


KILLED = """
import os, signal, sys
from pathlib import Path
from tintype.files.checkpoints import ObjectCheckpoints
from tintype.files.objects import Objects

def dies(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def writes(folder):
    (folder / "a").write_text("whole")
    (folder / "state").write_text("half")
    if sys.argv[3] == "while it is written":
        dies()

if sys.argv[3] == "between its files and its list":
    Objects.put_bytes = lambda self, key, data, put=Objects.put_bytes: dies() if key.endswith(".json") else put(self, key, data)
ObjectCheckpoints(Objects.open(sys.argv[1]), "r", Path(sys.argv[2]), token=2).save(8, writes)
"""  # noqa: E501


@pytest.mark.parametrize("when", ["while it is written", "between its files and its list"])
def test_a_kill_in_the_middle_of_a_save_leaves_the_old_checkpoint(machines: Machines, when: str) -> None:
    machines.attempt(1).save(7, writes("old"))
    place = machines.folder / ("machine-2" if machines.apart else "machine") / "checkpoints"
    command = [sys.executable, "-c", KILLED, machines.storage, str(place), when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL

    successor = machines.attempt(3)

    assert read(successor) == (7, "old")
    if not machines.apart:
        assert not list(machines.folder.rglob("new-*"))
    successor.save(9, writes("new"))
    assert machines.kept == ["7-1-0", "7-1.json", "9-3-0", "9-3.json", "owner-3"], "what was left half is gone"


def test_a_late_writer_neither_publishes_nor_removes_what_its_successor_reads(machines: Machines) -> None:
    late = machines.attempt(1)
    late.save(1, writes("1"))
    late.save(2, writes("2"))
    successor = machines.attempt(2)
    reads = successor.latest()
    before = machines.kept

    with pytest.raises(LeaseLost):
        late.save(3, writes("late"))
    with pytest.raises(LeaseLost):
        machines.attempt(1).latest()

    assert reads is not None
    assert os.listdir(reads.path) == ["state"]
    assert machines.kept == before
    assert read(successor) == (2, "2")


def test_a_writer_whose_request_has_ended_does_not_bring_anything_back(machines: Machines) -> None:
    store = machines.attempt(1)
    store.save(1, writes("in time"))
    shutil.rmtree(machines.folder / ("machine-1" if machines.apart else "machine"))
    objects = Objects.open(machines.storage)
    for key in objects.under("r"):
        objects.delete(key)
    with pytest.raises(LeaseLost):
        store.save(2, writes("late"))
    assert machines.kept == []
    assert list(machines.folder.rglob("checkpoints")) == []


def test_a_writer_of_another_machine_learns_that_its_request_has_ended(machines: Machines) -> None:
    store = machines.attempt(1)
    store.save(1, writes("in time"))
    objects = Objects.open(machines.storage)
    for key in objects.under("r"):
        objects.delete(key)
    with pytest.raises(LeaseLost):
        store.save(2, writes("late"))
    assert machines.kept == []


def test_saving_one_step_twice_keeps_what_is_safe_already(machines: Machines) -> None:
    store = machines.attempt()
    store.save(4, writes("first"))
    store.save(4, writes("second"))
    assert read(store) == (4, "first")


def test_saving_one_step_twice_adds_files_and_replaces_none(machines: Machines) -> None:
    told: list[int] = []

    def writes_more(folder: Path) -> None:
        (folder / "scores").write_text("0.9")
        (folder / "state").write_text("second")

    machines.attempt(1).save(4, writes("first"))
    store = machines.attempt(2, told.append)
    store.save(4, writes_more)
    store.save(4, writes_more)
    assert told == [4], "the last time there was nothing to add"
    found = machines.attempt(3).latest()
    assert found is not None
    assert {path.name: path.read_text() for path in found.path.iterdir()} == {"scores": "0.9", "state": "first"}


def test_each_published_step_is_reported(machines: Machines) -> None:
    told: list[int] = []
    machines.attempt(0, told.append).save(9, writes("x"))
    assert told == [9]


def test_files_that_checkpoints_share_are_stored_once_also_after_a_resumption(machines: Machines) -> None:
    sample = machines.folder / "sample.png"
    sample.write_bytes(b"drawn at step 1")

    def writes_with_sample(folder: Path) -> None:
        (folder / "state").write_text("x")
        (folder / "kept").mkdir()
        (folder / "kept" / "sample.png").hardlink_to(sample)

    store = machines.attempt(1)
    for step in (1, 2, 3):
        store.save(step, writes_with_sample)
    assert machines.kept == ["1-1-0", "2-1-1", "2-1.json", "3-1-1", "3-1.json", "owner-1"]

    successor = machines.attempt(2)
    found = successor.latest()
    assert found is not None
    sample = found.path / "kept" / "sample.png"
    successor.save(4, writes_with_sample)
    found = machines.attempt(3).latest()
    assert found is not None
    assert (found.step, (found.path / "kept" / "sample.png").read_bytes()) == (4, b"drawn at step 1")
    assert "1-1-0" in machines.kept
    assert "4-2-0" not in machines.kept


def test_in_a_folder_nothing_is_copied(tmp_path: Path) -> None:
    written: list[int] = []

    def writes_large(folder: Path) -> None:
        (folder / "state").write_bytes(bytes(1000))
        written.append((folder / "state").stat().st_ino)

    store = ObjectCheckpoints(Objects.open(str(tmp_path / "objects")), "r", tmp_path / "work")
    store.save(1, writes_large)
    found = store.latest()
    assert found is not None
    assert (found.path / "state").stat().st_ino == written[0] == (tmp_path / "objects" / "r" / "1-0-0").stat().st_ino


def test_checkpoints_of_the_version_before_are_taken_over(machines: Machines) -> None:
    place = machines.folder / ("machine-5" if machines.apart else "machine") / "checkpoints"
    for step in (3, 12):
        (place / f"{step:08d}" / "kept").mkdir(parents=True)
        (place / f"{step:08d}" / "state").write_text(str(step))
        (place / f"{step:08d}" / "kept" / "sample.png").write_text("drawn")
    (place / "owner").write_text("4")
    store = machines.attempt(5)
    assert read(store) == (12, "12")
    found = store.latest()
    assert found is not None
    assert (found.path / "kept" / "sample.png").read_text() == "drawn"
    assert not list(place.glob("0*"))


def settings_of(machine: Path, storage: str | None) -> Settings:
    return load_settings(data_dir=machine, storage=storage)


def test_work_is_known_and_removed_wherever_it_lies(bucket_url: str, tmp_path: Path) -> None:
    here = settings_of(tmp_path / "here", f"{bucket_url}/work")
    elsewhere = settings_of(tmp_path / "elsewhere", f"{bucket_url}/work")
    store = open_checkpoints(elsewhere, "trained-elsewhere", 1, lambda step: None)
    store.save(1, writes("x"))
    (here.work_dir / "only-scratch").mkdir(parents=True)

    assert set(work_of_requests(here)) == {"trained-elsewhere", "only-scratch"}
    assert not [batch for batch in Objects.open(here.storage_url).older_than(-60) if batch], "no files of requests"

    for request_id in work_of_requests(here):
        remove_work(here, request_id)
    assert work_of_requests(here) == {}
    with pytest.raises(LeaseLost):
        store.save(2, writes("late"))
