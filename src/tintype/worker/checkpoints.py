"""Checkpoints of a request outlive the attempt, and sometimes an attempt outlives its lease; both are settled here.

    <folder>/<step>/        a complete checkpoint; never changes
    <folder>/new-*/         one being written; ignored by readers
    <folder>/owner          fencing token of the newest attempt
    <folder>/lock           held for the instant of a change

A checkpoint is written aside, flushed to the disk, and renamed into place. Renaming, tidying and taking ownership
happen under the lock, and only for the owner: an attempt that was thought dead and still writes gets LeaseLost and can
neither publish nor remove anything that its successor reads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from tintype.errors import LeaseLost, StorageFull
from tintype.files.disk import is_full
from tintype.job import Checkpoint

KEPT = 2  # the newest, and one more in case its content turns out to be unusable


class FolderCheckpoints:
    """The CheckpointStore of one attempt, in a folder that all attempts of a request share.

    Opening it makes `token` the owner. Raises LeaseLost when a newer attempt owns the folder already.
    """

    def __init__(self, folder: Path, token: int = 0, saved: Callable[[int], None] = lambda step: None) -> None:
        self._folder = folder
        self._token = token
        self._saved = saved
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        with self._lock:
            if self._owner() > token:
                raise LeaseLost("A newer attempt at this request is running.")
            _write_durably(folder / "owner", str(token))
            for left in folder.glob("new-*"):
                shutil.rmtree(left, ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """The complete checkpoint of the highest step."""
        found = self._complete()
        return found[-1] if found else None

    def save(self, step: int, write: Callable[[Path], object]) -> Checkpoint:
        """Calls `write` with an empty folder, then publishes it atomically. Raises LeaseLost for a late writer, and
        StorageFull when the disk has no room for it."""
        if not self._folder.exists():
            raise LeaseLost("This request has ended; its folder is gone.")
        written: Path | None = None
        try:
            written = Path(tempfile.mkdtemp(prefix="new-", dir=self._folder))
            write(written)
            _flush_tree(written)
            checkpoint = self._publish(written, step)
        except BaseException as problem:
            if written is not None:
                shutil.rmtree(written, ignore_errors=True)
            if is_full(problem):
                raise StorageFull(
                    "The checkpoint could not be kept, because the disk is full.",
                    remedy="Free some space (`tintype doctor` shows how much there is).",
                ) from problem
            raise
        self._saved(step)
        return checkpoint

    def _publish(self, written: Path, step: int) -> Checkpoint:
        place = self._folder / f"{step:08d}"
        with self._lock:
            if self._owner() != self._token:
                raise LeaseLost("A newer attempt at this request is running.")
            if place.exists():  # due and draining at one step: what is there is the same, and is safe already
                shutil.rmtree(written)
            else:
                written.rename(place)
                _flush(self._folder)
            for old in self._complete()[:-KEPT]:
                shutil.rmtree(old.path)
        return Checkpoint(place, step)

    def _complete(self) -> list[Checkpoint]:
        names = [entry.name for entry in self._folder.iterdir() if entry.is_dir() and entry.name.isdigit()]
        return [Checkpoint(self._folder / name, int(name)) for name in sorted(names, key=int)]

    def _owner(self) -> int:
        """Token of the newest attempt that opened the folder; -1 for none."""
        try:
            return int((self._folder / "owner").read_text())
        except FileNotFoundError:
            return -1


def _write_durably(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    _flush(aside)
    aside.replace(path)
    _flush(path.parent)


def _flush_tree(folder: Path) -> None:
    """Everything below `folder` is on the disk when this returns; without it a rename could outlive its content."""
    for where, _, files in os.walk(folder):
        for name in files:
            _flush(Path(where) / name)
        _flush(Path(where))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
