"""A launcher of a test's own, in one file: supervisors in sessions of their own, which end only when they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from tintype.worker.launcher import LaunchPlan


class DetachedLauncher:
    """Starts supervisors without a lifeline, as a service manager would."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._plan = plan
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, devices: Sequence[str]) -> None:
        for device in devices:
            command, environment = self._plan.command(device), self._plan.environment
            process = await asyncio.create_subprocess_exec(*command, env=environment, start_new_session=True)
            self._processes.append(process)

    async def stop(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self._processes:
            await process.wait()
