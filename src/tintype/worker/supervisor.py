"""The supervisor of one device: claims requests for its two lanes, keeps their compute children, and says it is alive.

It imports no torch, so that nothing a model does can keep it from answering. It is the only process that works on its
device for this installation (a file lock), and the only one that writes results. When its parent dies it takes its
children along; when it is asked to stop, running work checkpoints and goes back to the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from tintype.catalog import Kind
from tintype.devices import chosen_devices
from tintype.errors import SettingsError
from tintype.installation import device_lock
from tintype.processes import (
    DEVICE_TAKEN,
    boot_id,
    host_name,
    is_running,
    keep_files_private,
    kill_group,
    set_up_log,
    watch_parent,
)
from tintype.settings import Settings, load_settings
from tintype.store import Store, Worker
from tintype.worker.attempt import DATABASE_AWAY
from tintype.worker.child_process import ChildPlan, ChildProcess
from tintype.worker.lane import Lane, log_file
from tintype.worker.ledger import MemoryLedger, device_budget

LOCK_SECONDS = 3.0  # to wait for a predecessor that is on its way out
LANES: tuple[Kind, ...] = ("inference", "training")  # in the order in which their children are started


class Supervisor:
    """Runs the lanes of a device until told to stop."""

    def __init__(self, device: str, settings: Settings, store: Store, endpoints: str) -> None:
        self._device = device
        self._settings = settings
        self._store = store
        self._log = structlog.get_logger().bind(device=device)
        self._stopping = asyncio.Event()
        self._devices = len(chosen_devices(settings.device))
        self._ledger = MemoryLedger(device, device_budget(settings, device), settings.draw_while_training)
        self._lanes = [self._lane(kind, endpoints) for kind in LANES]

    def stop(self) -> None:
        """Drains the lanes: nothing new is taken, what runs checkpoints. Calling it again has no effect."""
        self._stopping.set()
        for lane in self._lanes:
            lane.drain()

    async def run(self) -> None:
        """Takes back what dead predecessors held, then works until stopped."""
        await self._until_the_database_answers()
        self._log.info("supervisor ready")
        duties = asyncio.create_task(self._keep_announcing())
        try:
            async with asyncio.TaskGroup() as group:
                for place, lane in enumerate(self._lanes):
                    group.create_task(lane.run(partial(self._is_turn_of, place)))
        finally:
            duties.cancel()
            with suppress(*DATABASE_AWAY):  # a successor on this machine sees that this process is gone
                for lane in self._lanes:
                    await self._store.workers.retire(lane.worker.id)
            self._log.info("supervisor stopped")

    def _lane(self, kind: Kind, endpoints: str) -> Lane:
        worker = Worker(
            id=f"{host_name()}/{self._device}/{kind}/{uuid.uuid4().hex[:12]}",
            lane=kind,
            device=self._device,
            host=host_name(),
            pid=os.getpid(),
            boot_id=boot_id(),
            seen_at=time.time(),
            state="idle",
        )
        log, memory = log_file(self._settings, self._device, kind), self._settings.child_memory_bytes
        plan = ChildPlan(kind, self._device, endpoints, log, memory, self._devices)
        lane = Lane(worker, plan, self._store, self._settings, self._ledger)
        self._ledger.admit(lane)
        return lane

    def _is_turn_of(self, place: int) -> bool:
        """Lets children do their imports one after the other: all at once they would starve the web process."""
        return all(lane.warm for lane in self._lanes[:place])

    async def _until_the_database_answers(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._release_leases_of_dead_workers()
                await self._announce()
                return
            except DATABASE_AWAY as problem:
                self._log.warning("the database did not answer", problem=str(problem))
                await asyncio.sleep(1.0)

    async def _release_leases_of_dead_workers(self) -> None:
        """Leases of local workers that died are free again at once, and nobody waits to hear of them."""
        for worker in await self._store.workers.list():
            if is_dead_here(worker, silence=2 * self._settings.lease_seconds):
                freed = await self._store.leases.release_worker(worker.id, "the supervisor was killed")
                await self._store.workers.retire(worker.id)
                self._log.info("took over from a dead worker", worker=worker.id, requests=freed)

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_seconds)
            try:
                await self._announce()
                await self._release_leases_of_dead_workers()
                await self._store.leases.reap()
            except DATABASE_AWAY as problem:
                self._log.warning("the database did not answer", problem=str(problem))

    async def _announce(self) -> None:
        for lane in self._lanes:
            now = replace(lane.worker, seen_at=time.time(), state=lane.state, resident=lane.resident)
            await self._store.workers.announce(now)


def is_dead_here(worker: Worker, *, silence: float) -> bool:
    """Tells whether a worker is one of this machine and certainly gone.

    Leases of such workers are taken back at once instead of after their time, so a restart does not cost half a minute.
    One of an earlier boot could be alive on another machine of the same name: it is gone after `silence` seconds.
    """
    if worker.host != host_name():
        return False
    if worker.boot_id != boot_id():
        return time.time() - worker.seen_at > silence
    return not is_running(worker.pid, worker.seen_at)


def kill_children() -> None:
    """Kills what an orphaned supervisor would leave behind."""
    for pid in tuple(ChildProcess.living):
        kill_group(pid)


async def supervise(device: str, settings: Settings, endpoints: str) -> None:
    """Runs a supervisor until SIGTERM or SIGINT, then drains it."""
    store = await Store.open(settings.database_url, lease_seconds=settings.lease_seconds, limits=settings.limits)
    try:
        supervisor = Supervisor(device, settings, store, endpoints)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        await supervisor.run()
    finally:
        await store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Supervises one device until told to stop; its exit status tells a device that another one works on."""
    parser = argparse.ArgumentParser(prog="python -m tintype.worker.supervisor", description="Works on one device.")
    parser.add_argument("--device", required=True)
    parser.add_argument("--parent-fd", type=int, help="read end of a pipe that closes when the parent dies")
    parser.add_argument("--endpoints", default="tintype.catalog:ENDPOINTS", help="module:NAME of the endpoints served")
    options = parser.parse_args(arguments)
    keep_files_private()
    if options.parent_fd is not None:
        watch_parent(options.parent_fd, kill_children)
    settings = load_settings()
    set_up_log()
    try:
        with device_lock(settings.data_dir.resolve(), options.device, patience=LOCK_SECONDS):
            asyncio.run(supervise(options.device, settings, options.endpoints))
    except SettingsError as problem:
        print(problem.message, file=sys.stderr)
        sys.exit(DEVICE_TAKEN)


if __name__ == "__main__":
    main()
