"""A process that is kept alive: what dies is started again, at once the first time, later each time it dies young."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from tintype.processes import DEVICE_TAKEN, kill_group

FIRST_PAUSE = 0.1  # seconds before a restart; doubles while the process dies young
LONGEST_PAUSE = 30.0
STABLE_AFTER_SECONDS = 60.0  # seconds of life after which a death counts as the first again


class ManagedProcess:
    """Runs a command until told to stop. `fds` are handed down to it.

    `give_up` is called, and nothing is started again, once it says by its exit status that its device is taken.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, fds: tuple[int, ...],
        exit_seconds: float, give_up: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._name = name
        self._command = command
        self._environment = environment
        self._fds = fds
        self._exit_seconds = exit_seconds
        self._give_up = give_up
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger().bind(process=name)
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Asks the process to end, insists after its time, and returns when it has. Called again, insists at once."""
        insists = self._stopping.is_set()
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            if insists:
                kill_group(self._process.pid)
            else:
                self._process.send_signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._keeper], timeout=self._exit_seconds)
        if not done and self._process is not None:
            self._log.warning("process did not end in time and is killed")
            kill_group(self._process.pid)
        await self._keeper

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            born = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
                pass_fds=self._fds,
                process_group=0,  # Ctrl-C in the terminal is this process's to handle
            )
            if self._stopping.is_set():  # asked for while it was being started
                self._process.send_signal(signal.SIGTERM)
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            if code == DEVICE_TAKEN:
                self._give_up()
                return
            if time.monotonic() - born > STABLE_AFTER_SECONDS:
                pause = FIRST_PAUSE
            self._log.warning("process ended and is started again", code=code, after=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)
