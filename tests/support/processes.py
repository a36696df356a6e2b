"""A real supervisor, or a real `serve`, in a data folder of its own; jobs are tiny, processes can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.private import open_to_others
from tests.support.server import free_port
from tintype.processes import Lifeline
from tintype.settings import Settings, load_settings
from tintype.store import NewRequest, Request, Status, Store
from tintype.worker.launcher import environment

PATIENCE = 180.0  # seconds; generous, because the machine may be busy
ROOT = Path(__file__).parents[2]
TINY_JOBS = "tests.support.tiny_jobs:ENDPOINTS"
MARK = "CRASH_TEST_TREE"  # environment variable by which descendants are found even when orphaned
PROGRAM = (
    "import sys; from tintype.cli.serve import run_server; from tintype.settings import load_settings;"
    f"sys.exit(run_server(load_settings(), endpoints={TINY_JOBS!r}))"
)
# What runs in each kind of process, as its command line shows.
KINDS = {"web": "tintype.web", "supervisor": "tintype.worker.supervisor", "child": "tintype.worker.child"}


def command(process: psutil.Process) -> list[str]:
    """Returns the command line of a process; none of one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie is one, too
        return []


def environment_with_tiny_jobs(settings: Settings) -> dict[str, str]:
    """Returns the environment of a process that is to find TINY_JOBS."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return environment(settings) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


class RequestsInStore:
    """Submits requests past the web, and watches what becomes of them."""

    patience = PATIENCE

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store

    async def submit(self, kind: str = "training", **input: Any) -> str:
        new = NewRequest(f"test/{kind}", kind, input, origin="http://here:1")  # type: ignore[arg-type]
        return (await self.store.requests.submit(new))[0].id

    async def get(self, request_id: str) -> Request:
        request = await self.store.requests.get(request_id)
        assert request is not None
        return request

    async def until(self, request_id: str, true: Callable[[Request], bool]) -> Request:
        async with asyncio.timeout(self.patience):
            while True:
                request = await self.get(request_id)
                if true(request):
                    return request
                await asyncio.sleep(0.05)

    async def finished(self, request_id: str) -> Request:
        return await self.until(request_id, lambda request: request.status is Status.COMPLETED)

    async def at_step(self, request_id: str, step: int) -> Request:
        return await self.until(request_id, lambda request: request.step >= step)

    async def messages(self, request_id: str) -> list[str]:
        return [line.message for line in await self.store.requests.logs(request_id)]


class SupervisorProcess(RequestsInStore):
    """A supervisor, as the launcher starts it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(settings, store)
        self.lifeline = Lifeline()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, endpoints: str = TINY_JOBS) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tintype.worker.supervisor", "--device", "cpu",
             "--parent-fd", str(self.lifeline.fd), "--endpoints", endpoints],
            pass_fds=(self.lifeline.fd,),
            env=environment_with_tiny_jobs(self.settings),
            umask=0o022,
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def ended(self, process: subprocess.Popen[bytes]) -> int:
        return await asyncio.to_thread(process.wait, PATIENCE)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.lifeline.close()


class ServeProcess(RequestsInStore):
    """A `serve` and its descendants."""

    def __init__(self, settings: Settings, store: Store, log: Path) -> None:
        super().__init__(settings, store)
        self.log = log
        self.mark = uuid.uuid4().hex
        self.program = PROGRAM
        self.process: subprocess.Popen[bytes] | None = None  # the one started last
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, **changed: Any) -> subprocess.Popen[bytes]:
        settings = self.settings.model_copy(update=changed)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.program],
                env=environment_with_tiny_jobs(settings) | {MARK: self.mark},
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o022,
            )
        self.started.append(self.process)
        return self.process

    def tree(self) -> list[psutil.Process]:
        """All living processes of this serve, orphans included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def members(self, kind: str) -> list[psutil.Process]:
        return [process for process in self.tree() if KINDS[kind] in command(process)]

    async def member(self, kind: str, lane: str = "") -> psutil.Process:
        """The one process of a kind (and lane), once it is there."""

        def look() -> psutil.Process | None:
            found = [process for process in self.members(kind) if not lane or lane in command(process)]
            return found[0] if found else None

        return await self.eventually(look, kind)

    async def eventually(self, look: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """The first true answer of `look`; fails with the server's log when there is none in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            answer = await asyncio.to_thread(look)
            if answer:
                return answer
            if loop.time() > end or (what == "/ready" and self.process is not None and self.process.poll() is not None):
                raise AssertionError(f"not within {seconds} s: {what}\n{self.log.read_text()[-4000:]}")
            await asyncio.sleep(0.05)

    async def ready(self, seconds: float = PATIENCE) -> None:
        await self.eventually(lambda: self.answers("/ready"), "/ready", seconds)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.settings.port}{path}", timeout=5, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    async def ended(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, PATIENCE)

    def kill_all(self) -> None:
        while tree := self.tree():
            for process in tree:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(tree, timeout=1)
        for started in self.started:
            started.wait()


def settings_in(folder: Path) -> Settings:
    """Returns settings under which a supervisor soon hears and soon kills."""
    return load_settings(data_dir=folder / "data", heartbeat_seconds=1.0, cancel_grace_seconds=1.0, lease_seconds=10.0)


@asynccontextmanager
async def supervision(settings: Settings) -> AsyncIterator[SupervisorProcess]:
    """A supervisor that a test starts, with its store; it is gone at the end of the block."""
    settings.data_dir.mkdir()
    store = await Store.open(settings.database_url, lease_seconds=settings.lease_seconds)
    running = SupervisorProcess(settings, store)
    try:
        yield running
    finally:
        running.stop()
        await store.close()
    assert open_to_others(settings.data_dir) == []


@asynccontextmanager
async def serve_in(folder: Path) -> AsyncIterator[ServeProcess]:
    """A `serve` that a test starts, with its store; all its processes are gone at the end of the block."""
    settings = load_settings(data_dir=folder / "data", port=free_port(), device="cpu", heartbeat_seconds=1.0)
    settings.data_dir.mkdir()
    store = await Store.open(settings.database_url, lease_seconds=settings.lease_seconds)
    running = ServeProcess(settings, store, folder / "serve.log")
    try:
        yield running
    finally:
        await asyncio.to_thread(running.kill_all)
        await store.close()
    assert open_to_others(settings.data_dir) == []
