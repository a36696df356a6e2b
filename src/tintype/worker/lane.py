"""A lane of a device: takes one request after another from the queue and carries each through its compute child.

Each device has two, one for training and one for drawing, with a child each, so that a picture does not wait for a
training. A child is started before anyone needs it, because the imports of the compute libraries take seconds, and
started again after a death, later each time while it dies without doing any work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from tintype.catalog import Kind
from tintype.devices import EnergyMeter, free_bytes
from tintype.errors import StorageUnavailable
from tintype.files.checkpoints import remove_work
from tintype.settings import GIB, Settings
from tintype.store import Claim, Store, Worker
from tintype.worker.attempt import DATABASE_AWAY, RETRY_SECONDS, AttemptEnd, AttemptRun
from tintype.worker.child_process import ChildPlan, ChildProcess
from tintype.worker.ledger import MemoryLedger, Wait

POLL_SECONDS = 0.2  # between looks at the queue while there is nothing to do
ENOUGH_MEMORY = 2 * GIB  # free, for starting a child before there is work for it
LOAD_AGAIN_SECONDS = 3.0  # after memory ran out while a model was loaded; others on the device may be gone by then
LONGEST_PAUSE = 30.0  # seconds between starts of a child that dies idle


class Lane:
    """Claims and runs until drained. `worker` is how the queue knows it."""

    def __init__(self, worker: Worker, plan: ChildPlan, store: Store, settings: Settings, ledger: MemoryLedger) -> None:
        self.worker = worker
        self.kind: Kind = worker.lane
        self.wait: Wait | None = None  # for memory
        self.idle_since = 0.0  # when it last had work, monotonic
        self._ledger = ledger
        self._claiming = asyncio.Lock()  # held while it is not known whether there is work
        self._granted = 0  # bytes, to what runs
        self._pauses = _Pauses()
        self._plan = plan
        self._store = store
        self._settings = settings
        self._meter = EnergyMeter(worker.device)
        self._log = structlog.get_logger().bind(lane=self.kind)
        self._child: ChildProcess | None = None
        self._attempt: AttemptRun | None = None
        self._resident: tuple[str, ...] = ()
        self._used_at = time.monotonic()
        self._idle_deaths = 0
        self._start_not_before = 0.0
        self._unloaded = False  # let go after a long idle time: not started again until there is work
        self._draining = asyncio.Event()

    @property
    def state(self) -> str:
        """Tells whether the lane is idle, busy or draining."""
        if self._draining.is_set():
            return "draining"
        return "busy" if self._attempt else "idle"

    @property
    def is_busy(self) -> bool:
        return self._attempt is not None

    @property
    def held(self) -> int:
        """Bytes of the device that its child holds or was granted."""
        return 0 if self._child is None else self._child.held

    @property
    def running(self) -> tuple[str, str]:
        """The id of the request that runs, and how far it is; empty where none does."""
        return ("", "") if self._attempt is None else (self._attempt.request_id, self._attempt.how_far)

    @property
    def has_memory(self) -> bool:
        """Tells whether what runs has been granted any of the device's memory."""
        return self._granted > 0

    def grant(self, total: int) -> None:
        """Takes note of how many bytes its child may hold; none are given back before its job ends."""
        self._granted = max(self._granted, total)
        if self._child is not None:
            self._child.held = max(self._child.held, total)

    async def unload(self) -> None:
        """Has an idle child let go of its models; a busy one keeps them."""
        async with self._claiming:
            if self._child is not None and self._attempt is None:
                self._resident = ()
                await self._child.unload()
                self._log.info("models unloaded: the other lane needs their memory")

    def pause(self) -> None:
        """Has what runs checkpoint and go back to the queue, if it has come further since it was last paused and has
        worked for as long as that pause took."""
        if self._attempt is not None and self._attempt.has_advanced and self._pauses.may_begin():
            self._attempt.pause()

    @property
    def resident(self) -> tuple[str, ...]:
        """Affinities of the latest requests, whose adapters the child still holds, the latest first; then what they
        begin with, their bases, for requests without adapters."""
        return tuple(dict.fromkeys([*self._resident, *(affinity.partition(" ")[0] for affinity in self._resident)]))

    @property
    def warm(self) -> bool:
        """Tells whether there is nothing to wait for: the child has done its imports, or is deliberately not there."""
        return self._unloaded or (self._child is not None and self._child.alive and self._child.ready)

    def drain(self) -> None:
        """Takes nothing more; what runs checkpoints and goes back to the queue."""
        self._draining.set()
        if self._attempt is not None:
            self._attempt.drain()

    async def run(self, may_start_early: Callable[[], bool]) -> None:
        """Works until drained. `may_start_early` tells whether it is its turn to start a child without work."""
        try:
            while not self._draining.is_set():
                if await self._work():
                    continue
                await self._look_after_child(may_start_early())
                await self._pause(POLL_SECONDS)
        finally:
            if self._child is not None:
                await (self._child.stop() if self._child.alive else self._child.kill())

    async def _work(self) -> bool:
        """Carries the next request, if there is one and the ledger lets it; tells whether it did."""
        async with self._claiming:
            if self.wait is not None and not await self._is_waiting():
                self.wait = None
            claim = await self._claim() if self._ledger.may_begin(self) else None
            if claim is None:
                return False
            await self._begin(claim)
        if self.wait is not None and self.wait.needed is None:
            await self._ledger.unload_others(self)
        await self._carry(claim)
        return True

    async def _is_waiting(self) -> bool:
        try:
            return await self._store.leases.is_waiting(self.kind)
        except DATABASE_AWAY:
            return True

    async def _claim(self) -> Claim | None:
        try:
            return await self._store.leases.claim(self.worker.id, self.kind, resident=self.resident)
        except DATABASE_AWAY as problem:
            self._log.warning("the database did not answer", problem=str(problem))
            await self._pause(RETRY_SECONDS)
            return None

    async def _begin(self, claim: Claim) -> None:
        """Makes ready one attempt, on the child that is there or a new one. From here on the lane is busy."""
        if self._child is None or not self._child.alive:
            await self._start_child()
        assert self._child is not None
        ask = partial(self._ledger.ask, self)
        self._granted = 0
        self._attempt = AttemptRun(claim, self._child, self._store, self._settings, self._meter, ask)
        self._pauses.attempt_begins(claim.request.id)
        if self._draining.is_set():  # asked for while the claim was under way
            self._attempt.drain()

    async def _carry(self, claim: Claim) -> None:
        assert self._attempt is not None
        try:
            ended = await self._attempt.run()
        finally:
            self._attempt = None
        self._take_note(claim, ended)
        if ended.succeeded:  # what failed keeps its checkpoints, for a retry (until housekeeping removes them)
            await self._remove_work(claim.request.id)

    def _take_note(self, claim: Claim, ended: AttemptEnd) -> None:
        self._used_at = self.idle_since = time.monotonic()
        self.wait = self._wait_after(ended)
        if ended.paused:
            self._pauses.pause_begins(claim.request.id)
        self._idle_deaths = 0
        self._start_not_before = 0.0
        if not ended.healthy:
            self._child, self._resident = None, ()
        elif affinity := claim.request.affinity:
            others = (name for name in self._resident if name != affinity)
            self._resident = (affinity, *others)[: self._settings.resident_adapters]

    def _wait_after(self, ended: AttemptEnd) -> Wait | None:
        """What keeps the lane from beginning again at once; a wait goes on from when it began."""
        now = time.monotonic()
        if ended.waits_for is not None:
            return Wait(ended.waits_for, now if self.wait is None else self.wait.since)
        if ended.lacked_memory:
            return Wait(None, now, not_before=now + LOAD_AGAIN_SECONDS)
        return Wait(self._granted, now) if ended.paused else None

    async def _remove_work(self, request_id: str) -> None:
        try:
            await asyncio.to_thread(remove_work, self._settings, request_id)
        except StorageUnavailable as problem:  # housekeeping removes it later
            self._log.warning("the work of a request stays for now", request_id=request_id, problem=problem.message)

    async def _look_after_child(self, may_start: bool) -> None:
        child = self._child
        if child is not None and not child.alive:
            self._idle_deaths += 1
            pause = min(2.0 ** (self._idle_deaths - 1), LONGEST_PAUSE) if self._idle_deaths > 1 else 0.0
            self._start_not_before = time.monotonic() + pause
            self._log.warning("compute process died while idle", cause=await child.wait(), next_start_in=pause)
            self._child, self._resident = None, ()
        elif child is not None and child.ready and self._idle_seconds() > self._settings.idle_unload_seconds:
            self._log.info("compute process unloaded after being idle")
            await child.stop()
            self._child, self._resident, self._unloaded = None, (), True
        elif child is None and may_start and not self._unloaded and time.monotonic() >= self._start_not_before:
            if free_bytes() >= ENOUGH_MEMORY:
                await self._start_child()
            else:
                self._unloaded = True
                self._log.info("memory is short: the compute process starts with the first request")

    def _idle_seconds(self) -> float:
        return time.monotonic() - self._used_at

    async def _start_child(self) -> None:
        self._child = await ChildProcess.start(self._plan)
        self._unloaded = False
        self._used_at = time.monotonic()
        self._log.info("compute process started", pid=self._child.pid)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)


class _Pauses:
    """Knows how long the request that runs was last paused: for that long it is not paused again."""

    def __init__(self) -> None:
        self._request_id, self._since, self._lasted, self._resumed = "", 0.0, 0.0, 0.0

    def pause_begins(self, request_id: str) -> None:
        self._request_id, self._since = request_id, time.monotonic()

    def attempt_begins(self, request_id: str) -> None:
        self._resumed = time.monotonic()
        self._lasted = self._resumed - self._since if request_id == self._request_id else 0.0

    def may_begin(self) -> bool:
        return time.monotonic() - self._resumed >= self._lasted


def log_file(settings: Settings, device: str, lane: Kind) -> Path:
    """Names the file where a lane's child writes what its libraries print."""
    return settings.data_dir.resolve() / "logs" / f"{device.replace(':', '-')}-{lane}.log"
