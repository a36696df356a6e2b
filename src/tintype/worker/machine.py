"""Which machine and boot this is, and whether a worker that was seen here still lives.

Leases of dead local workers are taken back at once instead of after their time, so a restart does not cost half a
minute. A process id alone proves nothing: ids are used again, in containers almost at once. A worker lives if its
process exists and was born before the worker was last seen.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil

from tintype.store import Worker

CLOCK_SLACK = 2.0  # seconds that a process's time of birth may be off


def host_name() -> str:
    """The name under which workers of this machine are known in the queue."""
    return socket.gethostname()


def boot_id() -> str:
    """Differs after every boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return str(int(psutil.boot_time()))


def is_dead_here(worker: Worker, *, silence: float) -> bool:
    """True only for a worker of this machine that is certainly gone.

    One of an earlier boot could be alive on another machine of the same name: it is gone after `silence` seconds.
    """
    if worker.host != host_name():
        return False
    if worker.boot_id != boot_id():
        return time.time() - worker.seen_at > silence
    try:
        process = psutil.Process(worker.pid)
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > worker.seen_at + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
