"""How much memory a compute child may take: past that its job ends and is told why, and the machine goes on.

A cgroup (v2) of the child's own counts what is really used, by all that it starts, too. Where none can be made (in most
containers, without systemd), RLIMIT_DATA bounds what the child may reserve. Mapped weights count for that as well: so
with a GPU, whose weights are large, only a limit that somebody has set is put on it. Where neither holds the child, the
supervisor looks at what is really its own, and ends it.
"""

from __future__ import annotations

import re
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tintype.errors import OutOfMemory
from tintype.settings import GIB

LOOK_SECONDS = 0.5  # between two looks at a child that nothing else holds
USUAL_PART = 0.85  # of the machine's memory, or of its container's
CGROUPS = Path("/sys/fs/cgroup")
_LIMIT_OF_V1 = CGROUPS / "memory" / "memory.limit_in_bytes"
_WANT = re.compile(r"MemoryError|bad_alloc|(?:can't|cannot) allocate memory|out of memory", re.IGNORECASE)


@dataclass
class MemoryLimit:
    """A limit on one process. `group` is its cgroup, None where it has none; `is_enforced`: by the kernel."""

    bytes: int
    group: Path | None = None
    is_enforced: bool = False
    is_passed: bool = False  # by what was seen; the kernel tells otherwise

    @classmethod
    def put_on(cls, pid: int, *, device: str, given: int | None, own: Path | None = None) -> Self:
        """Limits a process to `given` bytes, or to what is usual here. `own` is the cgroup of this process."""
        own = own or _own_group()
        limit = cls(given or usual_bytes(own))
        limit.group = _new_group(pid, limit.bytes, own)
        if limit.group is None and (given or device == "cpu") and hasattr(resource, "prlimit"):
            with suppress(OSError, ValueError):  # gone already, or held to less by whoever started us
                resource.prlimit(pid, resource.RLIMIT_DATA, (limit.bytes, limit.bytes))
                limit.is_enforced = True
        limit.is_enforced |= limit.group is not None
        return limit

    def look(self, pid: int) -> bool:
        """Tells whether a process, with what it has started, has passed the limit with what no other file backs."""
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            held = [part.memory_info() for part in (process, *process.children(recursive=True))]
            self.is_passed |= sum(part.rss - getattr(part, "shared", 0) for part in held) > self.bytes
        return self.is_passed

    @property
    def has_killed(self) -> bool:
        """Tells whether the process was ended for having passed the limit, by the kernel or by whoever looked."""
        events = "" if self.group is None else _read(self.group / "memory.events")
        return self.is_passed or re.search(r"^oom_kill [1-9]", events, re.MULTILINE) is not None

    def lift(self) -> None:
        """Removes the cgroup of a process that has ended."""
        if self.group is not None:
            with suppress(OSError):
                self.group.rmdir()


def says_want(line: str) -> bool:
    """Tells whether a line is what compute libraries say where an allocation fails."""
    return _WANT.search(line) is not None


def usual_bytes(own: Path) -> int:
    """Returns the limit of who sets none, by the memory of the machine and of each cgroup above."""
    totals = [psutil.virtual_memory().total]
    for path in (_LIMIT_OF_V1, *(group / "memory.max" for group in (own, *own.parents))):
        with suppress(OSError, ValueError):  # "max", or none
            totals.append(int(path.read_text()))
    return int(min(totals) * USUAL_PART)


def too_little(limit: int) -> OutOfMemory:
    """Makes the error for a job that needs more than its process may have."""
    return OutOfMemory(
        f"The job does not fit the memory that a compute process may take here, {limit / GIB:.3g} GiB.",
        remedy="Send fewer or smaller photos, or raise TINTYPE_CHILD_MEMORY_BYTES on a machine that has more.",
    )


def _own_group() -> Path:
    found = re.search(r"^0::/(.*)$", _read(Path("/proc/self/cgroup")), re.MULTILINE)
    return CGROUPS / (found[1] if found else "")


def _new_group(pid: int, limit: int, own: Path) -> Path | None:
    """Makes a limited cgroup for a process beside our own, or below it where that is the topmost; None where it may
    not, or where memory is not counted."""
    above = own if own == CGROUPS else own.parent
    if "memory" not in _read(above / "cgroup.subtree_control").split():
        return None
    group = above / f"tintype-{pid}"
    try:
        group.mkdir()
        for name, value in (("memory.max", limit), ("memory.oom.group", 1), ("cgroup.procs", pid)):
            (group / name).write_text(f"{value}\n")
    except OSError:
        with suppress(OSError):
            group.rmdir()
        return None
    return group


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
