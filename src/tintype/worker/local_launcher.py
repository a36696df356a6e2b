"""`--launcher local`: a supervisor for each device, as processes of this machine that end with this one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tintype.job import DRAIN_SECONDS
from tintype.processes import Lifeline
from tintype.worker.child_process import EXIT_SECONDS
from tintype.worker.launcher import LaunchPlan
from tintype.worker.managed_process import ManagedProcess

SUPERVISOR_EXIT_SECONDS = DRAIN_SECONDS + 2 * EXIT_SECONDS


class LocalLauncher:
    """Keeps supervisors as its own processes. Its lifeline ends them however it ends."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._plan = plan
        self._lifeline = Lifeline()
        self._supervisors: list[ManagedProcess] = []

    async def start(self, devices: Sequence[str]) -> None:
        plan, fd = self._plan, self._lifeline.fd
        self._supervisors = [
            ManagedProcess(
                f"supervisor {device}",
                [*plan.command(device), "--parent-fd", str(fd)],
                plan.environment,
                fds=(fd,),
                exit_seconds=SUPERVISOR_EXIT_SECONDS,
                give_up=plan.give_up,
            )
            for device in devices
        ]

    async def stop(self) -> None:
        await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors))
