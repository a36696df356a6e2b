"""What every process of an installation does alike: ends with its parent, is known to others, writes a log.

A process that is killed cannot tidy up, so its descendants watch a pipe that only it can hold open. The parent keeps
the write end and never writes; the read end is handed to each descendant. However the parent dies, the kernel closes
the write end and every reader sees the end of file. The watch is a thread, not part of an event loop: it must act
while the main thread is deep inside compute code. It ends the process without asking anyone.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import structlog

from tintype.errors import TintypeError

DEVICE_TAKEN = 3  # exit status of a supervisor whose device another one works on
# Control characters of both sets, separators of lines, overrides of direction, interlinear marks, surrogates, tags.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
ORPHANED = 70  # exit status of a process whose parent has gone
LARGEST_LOG = 8 << 20  # bytes, after which a log file is put aside
CLOCK_SLACK = 2.0  # seconds that a process's time of birth may be off


class Lifeline:
    """Holds the parent's end of the pipe, for as long as this process lives."""

    def __init__(self) -> None:
        self.fd, self._held = os.pipe()  # neither is inherited unless named in pass_fds

    def close(self) -> None:
        """Lets go of every descendant at once; each ends itself."""
        os.close(self._held)
        os.close(self.fd)


def watch_parent(fd: int, last_act: Callable[[], None] = lambda: None) -> threading.Thread:
    """Ends this process as soon as the parent's pipe closes, after `last_act` (quick, and safe in any thread)."""
    os.set_inheritable(fd, False)

    def wait() -> None:
        while os.read(fd, 1):
            pass
        try:
            last_act()
        finally:
            os._exit(ORPHANED)

    thread = threading.Thread(target=wait, name="lifeline", daemon=True)
    thread.start()
    return thread


def kill_group(pid: int) -> None:
    """Sends SIGKILL to a process that leads its own group, and to whatever it started. Gone already is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(pid, signal.SIGKILL)


def end_own_group() -> None:
    """Ends this process and, where it leads a group, everything it started (compilers, loaders). Does not return."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(ORPHANED)


def keep_files_private() -> int:
    """Lets nobody but its owner read what this process and its descendants write. Returns the umask of before."""
    return os.umask(0o077)


def host_name() -> str:
    """Returns the name under which processes of this machine are known to others."""
    return socket.gethostname()


def boot_id() -> str:
    """Returns a text that differs after every boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return str(int(psutil.boot_time()))


def is_running(pid: int, seen_at: float | None = None) -> bool:
    """Tells whether a process lives, and is the one that was seen then.

    A process id alone proves nothing: ids are used again, in containers almost at once. The process that was seen was
    born before that.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return seen_at is None or process.create_time() <= seen_at + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def printable(text: str) -> str:
    """Replaces what a terminal would obey (control characters but tab and newline, bidirectional overrides): texts of
    strangers stand in logs and tables."""
    return UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))


def shorten_log(path: Path) -> None:
    """Puts aside what a log holds once that is too long, in place of what was put aside before; whoever appends to the
    log goes on."""
    with suppress(OSError):
        if path.stat().st_size <= LARGEST_LOG:
            return
        with suppress(OSError):  # a full disk: the lines are lost, the room is not
            shutil.copyfile(path, path.with_suffix(".old.log"))
        os.truncate(path, 0)


def answer_lines(work: Mapping[str, Callable[..., Any]]) -> None:
    """Answers lines of JSON on stdin, {"work": name, …}, by lines on stdout, {"done": …} or {"failure": …}, one after
    another. Ends with the parent, whose pipe closes then, also in the middle of a piece of work."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(ORPHANED)

    threading.Thread(target=read, daemon=True).start()
    while True:
        asked = json.loads(lines.get())
        try:
            told = {"done": work[asked.pop("work")](**asked)}
        except TintypeError as problem:
            told = {"failure": problem.failure().to_json()}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _make_printable(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def set_up_log() -> None:
    """Sets structlog up: a line an event on stderr, coloured text at a terminal, a JSON object everywhere else."""
    at_terminal = sys.stderr.isatty()
    if logging.lastResort is not None:  # what libraries log
        logging.lastResort.setFormatter(_PrintableFormatter())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not at_terminal),
            structlog.processors.format_exc_info,
            _make_printable,
            structlog.dev.ConsoleRenderer() if at_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
