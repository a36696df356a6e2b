"""Keeps the processes of one machine alive: the web process, the detour, and a supervisor for each device.

The launcher does as little as possible, so that it is the last to fall over: no torch, no web, no queue. It holds the
listening socket, so the port survives a restart of the web process and connections wait meanwhile. It holds the
lifeline, so nothing outlives it. What dies is started again: at once the first time, later each time it dies young.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import structlog

from tintype.devices import chosen_devices
from tintype.errors import SettingsError
from tintype.installation import Sockets
from tintype.processes import DEVICE_TAKEN, Lifeline, kill_group
from tintype.settings import PREFIX, Settings
from tintype.worker.child_process import DRAIN_SECONDS, EXIT_SECONDS

BACKLOG = 1024
PREDECESSOR_SECONDS = 2.0  # for the web process of a serve that was killed to let go of the port
FIRST_PAUSE = 0.1  # seconds before a restart; doubles while the process dies young
LONGEST_PAUSE = 30.0
STABLE_AFTER_SECONDS = 60.0  # seconds of life after which a death counts as the first again
WEB_EXIT_SECONDS = 10.0
SUPERVISOR_EXIT_SECONDS = DRAIN_SECONDS + 2 * EXIT_SECONDS


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises SettingsError for an address that is taken or not this machine's."""
    patience = time.monotonic() + PREDECESSOR_SECONDS
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            return _bound(socket.socket(family, kind, protocol), address)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE and time.monotonic() < patience:
                time.sleep(0.05)
                continue
            raise SettingsError(
                f"Cannot listen on {host}:{port}: {problem.strerror or problem}.",
                remedy="Stop what uses it, or choose another with --port (0 picks a free one) or --host.",
            ) from None


def _bound(listener: socket.socket, address: Any) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with the settings in it, for processes that read them from there."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        kept[PREFIX + name.upper()] = value if isinstance(value, str) else json.dumps(value)
    return kept


@dataclass
class ManagedProcess:
    """A process that is kept alive. `fds` are handed down to it."""

    name: str
    command: list[str]
    fds: tuple[int, ...]
    exit_seconds: float  # what it may take to end when asked
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)


def _detour(sockets: Sockets, lifeline: int) -> ManagedProcess:
    """What answers in fal's place to the programs of `tintype run` and `tintype env`."""
    fds = {"--gate-fd": sockets.gate.fileno(), "--fal-fd": sockets.fal.fileno(), "--parent-fd": lifeline}
    if sockets.tls is not None:
        fds["--tls-fd"] = sockets.tls.fileno()
    options = [text for name, fd in fds.items() for text in (name, str(fd))]
    command = [sys.executable, "-m", "tintype.fal_proxy", *options]
    return ManagedProcess("detour", command, tuple(fds.values()), WEB_EXIT_SECONDS)


class LocalLauncher:
    """`--launcher local`: everything on this machine. `endpoints` is `module:NAME` of what supervisors serve."""

    def __init__(
        self, settings: Settings, listener: socket.socket, endpoints: str, *, detour: Sockets | None = None
    ) -> None:
        self._environment = environment(settings)
        self._lifeline = Lifeline()
        self._stopping = asyncio.Event()
        self._forced = False
        self._status = 0
        self._log = structlog.get_logger()
        alive = ["--parent-fd", str(self._lifeline.fd)]
        self._web = ManagedProcess(
            "web",
            [sys.executable, "-m", "tintype.web", "--fd", str(listener.fileno()), *alive],
            (listener.fileno(), self._lifeline.fd),
            WEB_EXIT_SECONDS,
        )
        self._detours = [] if detour is None else [_detour(detour, self._lifeline.fd)]
        self._supervisors = [
            ManagedProcess(
                f"supervisor {device}",
                [
                    sys.executable,
                    "-m",
                    "tintype.worker.supervisor",
                    "--device",
                    device,
                    "--endpoints",
                    endpoints,
                    *alive,
                ],
                (self._lifeline.fd,),
                SUPERVISOR_EXIT_SECONDS,
            )
            for device in chosen_devices(settings.device)
        ]

    @property
    def _members(self) -> tuple[ManagedProcess, ...]:
        return (self._web, *self._detours, *self._supervisors)

    async def run(self) -> int:
        """Until SIGINT, SIGTERM or SIGHUP; returns the exit status. A second signal forces the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)
        keepers = [asyncio.create_task(self._keep(member)) for member in self._members]
        await self._stopping.wait()
        # Work first: whoever polls hears to the end how it went.
        await asyncio.gather(*(self._end(member) for member in self._supervisors))
        await self._end(self._web)
        await asyncio.gather(*(self._end(member) for member in self._detours))
        await asyncio.gather(*keepers)
        return self._status

    def _asked_to_stop(self) -> None:
        if not self._stopping.is_set():
            self._log.info("stopping: queued work stays queued, running work is checkpointed; again to force")
            self._stopping.set()
            return
        self._forced, self._status = True, 1
        for member in self._members:
            if member.process is not None and member.process.returncode is None:
                kill_group(member.process.pid)

    async def _keep(self, member: ManagedProcess) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            born = time.monotonic()
            member.process = await asyncio.create_subprocess_exec(
                *member.command,
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
                pass_fds=member.fds,
                process_group=0,  # Ctrl-C in the terminal is this process's to handle
            )
            code = await member.process.wait()
            if self._stopping.is_set():
                return
            if code == DEVICE_TAKEN:
                self._status = 1
                self._stopping.set()
                return
            if time.monotonic() - born > STABLE_AFTER_SECONDS:
                pause = FIRST_PAUSE
            self._log.warning("process ended and is started again", process=member.name, code=code, after=pause)
            await self._pause(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _end(self, member: ManagedProcess) -> None:
        """Asks first, then insists."""
        process = member.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGKILL if self._forced else signal.SIGTERM)
        try:
            async with asyncio.timeout(member.exit_seconds):
                await process.wait()
        except TimeoutError:
            self._log.warning("process did not end in time and is killed", process=member.name)
            kill_group(process.pid)
            await process.wait()
