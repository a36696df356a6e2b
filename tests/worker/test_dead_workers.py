"""Only workers that are certainly dead lose their leases early."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

from tintype.processes import boot_id, host_name
from tintype.store import Worker
from tintype.worker.supervisor import is_dead_here


def worker(pid: int) -> Worker:
    return Worker("w", "training", "cpu", host_name(), pid, boot_id(), seen_at=time.time(), state="idle")


def gone(one: Worker) -> bool:
    return is_dead_here(one, silence=60.0)


def test_a_living_process_is_not_dead() -> None:
    assert not gone(worker(os.getpid()))


def test_a_process_that_has_gone_is_dead_and_so_is_a_zombie() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert gone(worker(process.pid))
    process.wait()
    assert gone(worker(process.pid))


def test_a_process_id_that_was_given_to_someone_else_is_dead() -> None:
    long_ago = replace(worker(os.getpid()), seen_at=time.time() - 10_000_000)
    assert gone(long_ago)


def test_nothing_is_said_about_other_machines() -> None:
    missing = worker(2**22 - 1)
    assert gone(missing)
    assert not gone(replace(missing, host="elsewhere", seen_at=0.0))


def test_a_worker_of_an_earlier_boot_is_gone_once_it_has_been_silent() -> None:
    earlier = replace(worker(os.getpid()), boot_id="another boot")
    assert not gone(earlier)  # or it lives on another machine of this name
    assert gone(replace(earlier, seen_at=time.time() - 100))
