"""A real supervisor with real compute children on a database of its own; the jobs are tiny (tiny_jobs.py)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tintype.processes import Lifeline
from tintype.settings import Settings, load_settings
from tintype.store import NewRequest, Queue, Request, Status
from tintype.worker.launcher import environment

PATIENCE = 40.0  # seconds; generous, because the machine may be busy


class Supervised:
    """A supervisor process and the queue it works on."""

    patience = PATIENCE

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings = settings
        self.queue = queue
        self.lifeline = Lifeline()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tintype.worker.supervisor", "--device", "cpu",
             "--parent-fd", str(self.lifeline.fd), "--endpoints", "tiny_jobs:ENDPOINTS"],
            pass_fds=(self.lifeline.fd,),
            env=environment(self.settings) | {"PYTHONPATH": os.path.dirname(__file__)},
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def submit(self, kind: str = "training", **order: Any) -> str:
        new = NewRequest(f"test/{kind}", kind, order, origin="http://here:1")  # type: ignore[arg-type]
        return (await self.queue.submit(new))[0].id

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

    async def finished(self, request_id: str) -> Request:
        return await self.until(request_id, lambda request: request.status is Status.COMPLETED)

    async def at_step(self, request_id: str, step: int) -> Request:
        return await self.until(request_id, lambda request: request.step >= step)

    async def messages(self, request_id: str) -> list[str]:
        return [line.message for line in await self.queue.logs(request_id)]

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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        data_dir=tmp_path / "data", heartbeat_seconds=1.0, cancel_grace_seconds=1.0, lease_seconds=10.0
    )


@asynccontextmanager
async def supervision(settings: Settings) -> AsyncIterator[Supervised]:
    settings.data_dir.mkdir()
    queue = await Queue.open(settings.database_url, lease_seconds=settings.lease_seconds)
    running = Supervised(settings, queue)
    try:
        yield running
    finally:
        running.stop()
        await queue.close()


@pytest.fixture
def watched() -> Callable[[Settings], AbstractAsyncContextManager[Supervised]]:
    """A Supervised with settings of the test's own."""
    return supervision


@pytest.fixture
async def supervised(settings: Settings) -> AsyncIterator[Supervised]:
    async with supervision(settings) as running:
        yield running
