"""What every process of ours does for itself: it ends with its parent, and it writes its log in one form.

A process that is killed cannot tidy up, so its descendants watch a pipe that only it can hold open.

The parent keeps the write end and never writes; the read end is handed to each descendant. However the parent dies,
the kernel closes the write end and every reader sees the end of file. The watch is a thread, not part of an event
loop: it must act while the main thread is deep inside compute code. It ends the process without asking anyone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

DEVICE_TAKEN = 3  # exit status of a supervisor whose device another one works on
ORPHANED = 70  # exit status of a process whose parent has gone


class Lifeline:
    """The parent's side: open for as long as this process lives."""

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
    """SIGKILL to a process that leads its own group, and to whatever it started. Gone already is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(pid, signal.SIGKILL)


def end_own_group() -> None:
    """Ends this process and, where it leads a group, everything it started (compilers, loaders). Does not return."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(ORPHANED)


def set_up_log() -> None:
    """Makes this process log one line an event on stderr: coloured text at a terminal, else one JSON object."""
    import structlog  # not needed by compute children, which send their lines to their supervisor

    at_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if at_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not at_terminal),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
