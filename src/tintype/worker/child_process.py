"""The supervisor's handle on a compute child: start it, talk to it, know why it ended, end it.

A child leads its own process group, so that killing it takes along whatever its libraries started, and so that Ctrl-C
in the terminal reaches the launcher only. Its stderr goes to a file under `data_dir/logs`; the last lines are kept to
say why a child died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import ClassVar, cast

import psutil

from tintype.catalog import Kind
from tintype.processes import LARGEST_LOG, kill_group, printable, shorten_log
from tintype.worker.memory import LOOK_SECONDS, MemoryLimit, says_want
from tintype.worker.messages import FromChild, Stop, ToChild, Unload

LONGEST_LINE = 1 << 30  # bytes; pictures returned as data URIs travel in one message
TAIL_LINES = 20
HEADING = b"--- "  # begins the line with which a child heads what a job prints
EXIT_SECONDS = 5.0  # for a child without work to end by itself
UNLOAD_SECONDS = 5.0  # and to let go of its models

_ALLOCATOR = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"}  # what a person may have set

# A person waits for a picture, nobody for one step of a training: under contention the picture goes first.
NICENESS: dict[Kind, int] = {"training": 3, "inference": 0}


@dataclass(frozen=True)
class ChildPlan:
    """Says how a lane's child is started. `endpoints` is `module:NAME` of what it serves."""

    lane: Kind
    device: str
    endpoints: str
    log_file: Path
    memory_bytes: int | None = None  # the most it may take; None for what is usual
    devices: int = 1  # of this machine, which share its cores

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tintype.worker.child", "--lane", self.lane, "--device", self.device,
                "--endpoints", self.endpoints]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """Fixes the number of compute threads: sums are formed in another order with another number, and a resumed
        training must give the same losses. Threads that wait sleep instead of spinning: where the lanes or other
        programs share the cores, spinning made both lanes some fifty times slower (docs/processes.md)."""
        threads = str(compute_threads(self.devices))
        fixed = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE",
                 "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}  # fmt: skip
        # Images of dozens of sizes would leave holes in a GPU's memory that no later one fits.
        if self.device.startswith("cuda") and not _ALLOCATOR & os.environ.keys():
            fixed["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
        return {**os.environ, **fixed}


class ChildProcess:
    """Handles a living or dead compute child. `messages` ends with None when the child has."""

    living: ClassVar[set[int]] = set()  # pids, read by the lifeline's thread when this process is orphaned

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path, memory: MemoryLimit) -> None:
        self.memory = memory
        self.messages: asyncio.Queue[FromChild | None] = asyncio.Queue()
        self.ready = False
        self.lacked_memory = False  # as far as it has said; for sure once it was waited for
        self.held = 0  # bytes of the device that it was granted, or says it holds
        self._unloaded = asyncio.Event()
        self._process = process
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._keep_stderr(log_file))]
        if not memory.is_enforced:
            self._tasks.append(asyncio.create_task(self._watch_memory()))

    @classmethod
    async def start(cls, plan: ChildPlan) -> ChildProcess:
        """Starts a child; it may be handed work at once and says Ready when its imports are done."""
        process = await asyncio.create_subprocess_exec(
            *plan.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=plan.environment,
            limit=LONGEST_LINE,
            process_group=0,
        )
        cls.living.add(process.pid)
        _be_nice(process.pid, NICENESS[plan.lane])
        return cls(process, plan.log_file, MemoryLimit.put_on(process.pid, device=plan.device, given=plan.memory_bytes))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def send(self, message: ToChild) -> None:
        """Sends a message. A child that has died hears nothing; its end shows in `messages`."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return

    async def wait(self) -> str:
        """Waits for its end and tells why, for a person: exit code or signal, and the last words on stderr."""
        code = await self._process.wait()
        await asyncio.wait(self._tasks, timeout=1.0)  # a grandchild may hold stderr open
        how = f"signal {_name(-code)}" if code < 0 else f"exit code {code}"
        words = " | ".join(line for line in self._tail if line.strip())
        self.lacked_memory |= self.memory.has_killed
        kill_group(self.pid)  # what it had started
        self.memory.lift()
        return f"The compute process ended with {how}{': ' + words if words else ''}"

    async def kill(self) -> None:
        """Ends it and everything it started, now."""
        kill_group(self.pid)
        await self._process.wait()
        self.living.discard(self.pid)
        self.held = 0
        self.memory.lift()

    async def stop(self) -> None:
        """Lets an idle child leave by itself, which it does at once; kills it otherwise."""
        await self.send(Stop(say="stop"))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), EXIT_SECONDS)
        await self.kill()

    async def unload(self) -> None:
        """Has it let go of all models, which it does at once if it has no work; ends it if it does not."""
        self._unloaded.clear()
        await self.send(Unload(say="unload"))
        try:
            async with asyncio.timeout(UNLOAD_SECONDS):
                await self._unloaded.wait()
        except TimeoutError:
            await self.kill()

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            while line := await stdout.readline():
                message = cast(FromChild, json.loads(line))
                if message["say"] == "ready":
                    self.ready = True
                elif message["say"] == "holds_memory":
                    self.held = message["bytes"]
                    if message["unloaded"]:
                        self._unloaded.set()
                else:
                    self.messages.put_nowait(message)
        except ValueError as problem:  # no JSON, or a line without end: whatever speaks there is no child of ours
            self._tail.append(f"unintelligible message: {problem}")
            kill_group(self.pid)
        await self._process.wait()
        self.living.discard(self.pid)
        self.held = 0
        self._unloaded.set()
        self.messages.put_nowait(None)

    async def _watch_memory(self) -> None:
        while self.alive and not await asyncio.to_thread(self.memory.look, self.pid):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        if self.alive:
            kill_group(self.pid)

    async def _keep_stderr(self, log_file: Path) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with _open_log(log_file) as kept:
            while line := await stderr.readline():
                said = printable(line.replace(b"\r", b"\n").decode(errors="replace"))
                shorten_log(log_file)
                with suppress(OSError):  # on a full disk the child must still be read, or it would wait for us
                    kept.write(said.encode()[:LARGEST_LOG])
                if line.startswith(HEADING):
                    self._tail.clear()  # what an earlier job said is no cause of this one's end
                    self.lacked_memory = False
                    continue
                self._tail.append(said.strip()[-500:])
                self.lacked_memory |= says_want(said)


def compute_threads(devices: int = 1) -> int:
    """Counts a device's share of the cores that this process may use; hyperthreads share what arithmetic needs."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed) // devices)


def _open_log(path: Path) -> FileIO:
    """Opens a log to append to. Opens nothing where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)
    except OSError:
        return open(os.devnull, "ab", buffering=0)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _be_nice(pid: int, niceness: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
