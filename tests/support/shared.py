"""What takes long to make is made once in a run, whichever of pytest-xdist's workers wants it first."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from filelock import FileLock

T = TypeVar("T")

ENDS_WITHIN_SECONDS = 900  # how long whoever started something waits for the others to let go of it


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """Returns the folder that all workers of this run share, and no other run."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder that the first who asks fills by `make`."""
    folder = run_folder(factory) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@contextmanager
def started_once(
    factory: pytest.TempPathFactory, name: str, start: Callable[[], AbstractContextManager[T]]
) -> Iterator[T]:
    """Yields what the first who asks starts, and ends once nobody uses it; it has to be something that pickles."""
    described = run_folder(factory) / f"{name}.pickle"
    lock, users = FileLock(described.with_suffix(".lock")), described.with_suffix(".users")
    with ExitStack() as mine:
        with lock:
            users.mkdir(exist_ok=True)
            is_mine = not described.exists()
            thing: Any = mine.enter_context(start()) if is_mine else pickle.loads(described.read_bytes())
            if is_mine:
                described.write_bytes(pickle.dumps(thing))
            (users / str(os.getpid())).touch()
        try:
            yield thing
        finally:
            (users / str(os.getpid())).unlink()
            if is_mine:
                _await_others(lock, users, described)


def _await_others(lock: FileLock, users: Path, described: Path) -> None:
    """Waits until no living process uses it, then withdraws it, so that a later one starts its own."""
    ends = time.monotonic() + ENDS_WITHIN_SECONDS
    while True:
        with lock:
            living = [user.name for user in users.iterdir() if psutil.pid_exists(int(user.name))]
            if not living or time.monotonic() > ends:
                described.unlink()
                break
        time.sleep(0.1)
    assert not living, f"still in use by {living} after {ENDS_WITHIN_SECONDS} s"
