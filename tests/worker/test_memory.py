"""A compute child's memory is bounded by a cgroup where there is one to be had, else by what it may reserve."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tintype.worker.memory import USUAL_PART, MemoryLimit, says_want, usual_bytes

LIMIT = 1 << 30


@pytest.fixture
def process() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield psutil.Process(running.pid)
        running.kill()


def group(folder: Path, controllers: str) -> Path:
    """Makes a folder as the kernel shows the cgroup of a service, below one of a slice."""
    own = folder / "slice" / "service"
    own.mkdir(parents=True)
    (own.parent / "cgroup.subtree_control").write_text(controllers)
    return own


def test_a_cgroup_beside_our_own_bounds_the_child_where_memory_is_counted(
    tmp_path: Path, process: psutil.Process
) -> None:
    own = group(tmp_path, "cpu memory pids")
    limit = MemoryLimit.put_on(process.pid, device="cuda:0", given=LIMIT, own=own)
    assert limit.group == own.parent / f"tintype-{process.pid}"
    told = {path.name: path.read_text().strip() for path in limit.group.iterdir()}
    assert told == {"memory.max": str(LIMIT), "memory.oom.group": "1", "cgroup.procs": str(process.pid)}
    assert process.rlimit(psutil.RLIMIT_DATA) == (-1, -1)
    for killed in ("0", "1"):
        (limit.group / "memory.events").write_text(f"low 0\noom 1\noom_kill {killed}\n")
        assert limit.has_killed is (killed == "1")
    for path in limit.group.iterdir():
        path.unlink()
    limit.lift()
    assert not limit.group.exists()


@pytest.mark.parametrize("controllers", ["cpu pids", ""])
def test_without_a_cgroup_it_may_reserve_no_more(tmp_path: Path, process: psutil.Process, controllers: str) -> None:
    own = group(tmp_path, controllers)
    limit = MemoryLimit.put_on(process.pid, device="cpu", given=LIMIT, own=own)
    assert limit.group is None
    assert process.rlimit(psutil.RLIMIT_DATA) == (LIMIT, LIMIT)
    assert list(own.parent.glob("tintype-*")) == []


def test_with_a_gpu_mapped_weights_would_count_so_only_a_limit_that_was_set_is_put_on(
    tmp_path: Path, process: psutil.Process
) -> None:
    own = group(tmp_path, "")
    MemoryLimit.put_on(process.pid, device="cuda:0", given=None, own=own)
    assert process.rlimit(psutil.RLIMIT_DATA) == (-1, -1)
    MemoryLimit.put_on(process.pid, device="cuda:0", given=LIMIT, own=own)
    assert process.rlimit(psutil.RLIMIT_DATA) == (LIMIT, LIMIT)


def test_what_is_usual_is_a_part_of_what_machine_and_container_have(tmp_path: Path) -> None:
    own = group(tmp_path, "")
    (own / "memory.max").write_text("max\n")
    assert usual_bytes(own) <= psutil.virtual_memory().total * USUAL_PART
    (own.parent / "memory.max").write_text(f"{LIMIT}\n")
    assert usual_bytes(own) == int(LIMIT * USUAL_PART)


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", True),
        ("OSError: [Errno 12] Cannot allocate memory", True),
        ("MemoryError", True),
        ("Segmentation fault", False),
        ("", False),
    ],
)
def test_death_for_want_of_memory_is_known_by_the_last_words(words: str, passed: bool) -> None:
    assert says_want(words) is passed
