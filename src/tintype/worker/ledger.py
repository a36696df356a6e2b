"""Who may have how much of a device's memory: both lanes ask here before they load a model or begin a run of steps.

What a lane holds is what it was granted while its job runs, and what its child says is loaded while it is idle. An idle
lane's models go as soon as the other one wants their place; a busy lane keeps its own, and the other one's request goes
back to the queue until that has changed. So no lane ever waits while it keeps another from going on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tintype.catalog import Kind
from tintype.devices import gpus
from tintype.settings import GIB, MIB, Settings

USABLE = 0.98  # of what a GPU says it has: the driver has the rest
QUIET_SECONDS = 0.5  # that drawing has had nothing to do before a training that made room for it comes back
# For how long each lane lets the other go on once it waits: a person waits for a picture, nobody for a training's step.
PATIENCE: dict[Kind, float] = {"inference": 0.0, "training": 30.0}

DrawWhileTraining = Literal["wait", "pause"]


@dataclass(frozen=True)
class Answer:
    """What a lane that asked is told. available: bytes that it may hold in all; None where nobody counts them.

    Where it was not granted, `reason` is for the person who waits, and `behind` is the request that has the rest.
    """

    granted: bool
    available: int | None
    reason: str = ""
    behind: str | None = None


@dataclass(frozen=True)
class Wait:
    """What keeps a lane from beginning. needed: bytes, None for as many as can be had; times are monotonic."""

    needed: int | None
    since: float
    not_before: float = 0.0


class Lane(Protocol):
    """What the ledger sees and asks of a lane."""

    kind: Kind
    wait: Wait | None

    @property
    def held(self) -> int:
        """Bytes that its child holds or was granted."""
        ...

    @property
    def is_busy(self) -> bool: ...

    @property
    def has_memory(self) -> bool:
        """Tells whether what runs has been granted memory; until then nobody knows what it will need."""
        ...

    @property
    def idle_since(self) -> float: ...

    @property
    def running(self) -> tuple[str, str]:
        """The id of the request that runs, and how far it is; empty where none does."""
        ...

    def grant(self, total: int) -> None:
        """Takes note of how many bytes its child may hold."""
        ...

    async def unload(self) -> None:
        """Has an idle child let go of its models, and waits for that; a busy one keeps them."""
        ...

    def pause(self) -> None:
        """Has what runs checkpoint and go back to the queue, if it has come far enough since it last did."""
        ...


class MemoryLedger:
    """Keeps a device's memory for its lanes. `budget`: its bytes, or None where they are not counted."""

    def __init__(
        self,
        device: str,
        budget: int | None,
        draw_while_training: DrawWhileTraining = "wait",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self._device = device
        self._pauses = draw_while_training == "pause"
        self._clock = clock
        self._lanes: list[Lane] = []
        self._asking = asyncio.Lock()

    def admit(self, lane: Lane) -> None:
        """Counts a lane from now on."""
        self._lanes.append(lane)

    async def ask(self, lane: Lane, most: int, least: int, what: str) -> Answer:
        """Grants a lane that is busy up to `most` bytes in all, and not fewer than `least`.

        Where that does not fit beside what idle lanes hold, their models go first. A lane alone on its device is
        granted whatever it asks for: if that is too much, the device says so. `what` is what takes it, for a person.
        """
        if self.budget is None:
            return Answer(True, None)
        async with self._asking:
            if self._available(lane) < most:
                await self.unload_others(lane)
            available = self._available(lane)
            if available < least and any(other.held for other in self._others(lane)):
                return self._refusal(lane, available, least, what)
            lane.grant(min(available, most))
            return Answer(True, available)

    async def unload_others(self, lane: Lane) -> None:
        """Has the models of every other lane that is idle go."""
        for other in self._others(lane):
            if other.held:
                await other.unload()

    def may_begin(self, lane: Lane) -> bool:
        """Tells whether an idle lane may take a request now: what it waited for is to be had, and it is its turn.

        Where drawing waits for a training that may be paused, this is what pauses it.
        """
        now, wait = self._clock(), lane.wait
        if wait is not None and now < wait.not_before:
            return False
        for other in self._others(lane):
            if self._is_before(other, lane, now):
                return False
            if wait is None:
                continue
            if not other.is_busy:
                settled = now - other.idle_since >= QUIET_SECONDS or _due(wait, lane.kind) <= now
                if lane.kind == "training" and not settled:
                    return False
            elif not (other.has_memory and self._is_to_be_had(wait, lane)):
                if self._pauses and lane.kind == "inference":
                    other.pause()
                return False
        return True

    def _is_to_be_had(self, wait: Wait, lane: Lane) -> bool:
        """Whether what a lane waits for is there beside what the others hold."""
        return wait.needed is not None and (self.budget is None or self._available(lane) >= wait.needed)

    def _is_before(self, other: Lane, lane: Lane, now: float) -> bool:
        """Whether another lane that waits, and could go on now, has the first turn."""
        if other.wait is None or other.is_busy or now < other.wait.not_before:
            return False
        due = _due(other.wait, other.kind)
        return due <= now and (lane.wait is None or due < _due(lane.wait, lane.kind))

    def _others(self, lane: Lane) -> list[Lane]:
        return [other for other in self._lanes if other is not lane]

    def _available(self, lane: Lane) -> int:
        assert self.budget is not None
        return self.budget - sum(other.held for other in self._others(lane))

    def _refusal(self, lane: Lane, available: int, least: int, what: str) -> Answer:
        behind, how_far = next((other.running for other in self._others(lane) if other.is_busy), ("", ""))
        reason = (
            f"Waits for memory of {self._device}: {what} takes {_size(least)}, and {_size(max(0, available))} are left "
            f"beside {how_far or 'what is loaded'}."
        )
        return Answer(False, available, reason, behind or None)


def device_budget(settings: Settings, device: str) -> int | None:
    """Returns the bytes of a device that its lanes may share: as set, else nearly all of a GPU's; None for the CPU,
    where each child has a limit of its own."""
    if settings.device_memory_bytes is not None:
        return settings.device_memory_bytes
    if device == "cpu":
        return None
    named = device if ":" in device else f"{device}:0"
    memory = next((gpu.memory_bytes for gpu in gpus().found if gpu.id in (device, named)), None)
    return None if memory is None else int(memory * USABLE)


def _due(wait: Wait, kind: Kind) -> float:
    """When a lane that waits comes before the other one."""
    return max(wait.since + PATIENCE[kind], wait.not_before)


def _size(count: int) -> str:
    return f"{count / GIB:.2f} GiB" if count >= 256 * MIB else f"{count / MIB:.1f} MiB"
