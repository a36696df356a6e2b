"""A real `serve` on a data folder of its own, with tiny jobs, whose processes can be found and killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tintype.settings import Settings, load_settings
from tintype.store import NewRequest, Queue, Request, Status
from tintype.worker.launcher import environment

PATIENCE = 60.0  # seconds; generous, because the machine may be busy
MARK = "CRASH_TEST_TREE"  # environment variable by which descendants are found even when orphaned
JOBS = Path(__file__).parents[1] / "worker"
PROGRAM = (
    "import sys; from tintype.cli.serve import serve; from tintype.settings import load_settings;"
    "sys.exit(serve(load_settings(), endpoints='tiny_jobs:ENDPOINTS'))"
)
# What runs in each kind of process, as its command line shows.
KINDS = {"web": "tintype.web", "supervisor": "tintype.worker.supervisor", "child": "tintype.worker.child"}


class Serving:
    """A `serve`, its descendants, and the queue they work on."""

    patience = PATIENCE

    def __init__(self, settings: Settings, queue: Queue, log: Path) -> None:
        self.settings = settings
        self.queue = queue
        self.log = log
        self.mark = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None  # the one started last
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, **changed: Any) -> subprocess.Popen[bytes]:
        settings = self.settings.model_copy(update=changed)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=environment(settings) | {MARK: self.mark, "PYTHONPATH": str(JOBS)},
                stdout=log,
                stderr=log,
                start_new_session=True,
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
        return [process for process in self.tree() if KINDS[kind] in process.cmdline()]

    async def member(self, kind: str, lane: str = "") -> psutil.Process:
        """The one process of a kind (and lane), once it is there."""

        def look() -> psutil.Process | None:
            found = [process for process in self.members(kind) if not lane or lane in process.cmdline()]
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
            return httpx.get(f"http://127.0.0.1:{self.settings.port}{path}", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    async def submit(self, kind: str = "training", **order: Any) -> str:
        return (await self.queue.submit(NewRequest(f"test/{kind}", kind, order)))[0].id  # type: ignore[arg-type]

    async def get(self, request_id: str) -> Request:
        request = await self.queue.get(request_id)
        assert request is not None
        return request

    async def until(self, request_id: str, true: Callable[[Request], bool]) -> Request:
        async with asyncio.timeout(PATIENCE):
            while True:
                request = await self.get(request_id)
                if true(request):
                    return request
                await asyncio.sleep(0.05)

    async def at_step(self, request_id: str, step: int) -> Request:
        return await self.until(request_id, lambda request: request.step >= step)

    async def finished(self, request_id: str) -> Request:
        return await self.until(request_id, lambda request: request.status is Status.COMPLETED)

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


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    settings = load_settings(data_dir=tmp_path / "data", port=free_port(), device="cpu", heartbeat_seconds=1.0)
    settings.data_dir.mkdir()
    queue = await Queue.open(settings.database_url, lease_seconds=settings.lease_seconds)
    running = Serving(settings, queue, tmp_path / "serve.log")
    try:
        yield running
    finally:
        await asyncio.to_thread(running.kill_all)
        await queue.close()
