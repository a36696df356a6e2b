"""One attempt at a request, as the supervisor sees it: the child's messages in, heartbeats to the queue out.

A beat goes out every second while a job runs (sooner when log lines wait) and brings back whether the person has
cancelled. A database that is away for a moment does not stop the child: what could not be told is told with the next
beat, and whether the lease still holds is the queue's word alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, assert_never

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tintype.devices import EnergyMeter
from tintype.errors import Cancelled, Failure, LeaseLost, OutOfMemory, StorageFull
from tintype.job import DRAIN_SECONDS
from tintype.settings import Settings
from tintype.store import Claim, Ending, LogLine, Store, StoredFile
from tintype.worker.child_process import ChildProcess
from tintype.worker.ledger import Answer
from tintype.worker.memory import too_little
from tintype.worker.messages import (
    AskFile,
    AskMemory,
    Cancel,
    FileAnswer,
    Finish,
    FromChild,
    MemoryAnswer,
    Pause,
    Run,
    Stop,
)
from tintype.worker.progress import ProgressNotes

BEAT_SECONDS = 1.0
PROMPT_SECONDS = 0.4  # between beats while log lines or a checkpoint wait to be told
RETRY_SECONDS = 0.5  # before asking a database again that did not answer

AskLedger = Callable[[int, int, str], Awaitable[Answer]]  # see MemoryLedger.ask

DATABASE_AWAY = (SQLAlchemyError, OSError, StorageFull)  # each may be over in a moment, or once a person has helped


_PAUSED = "Stopped at a checkpoint while something is generated; it goes on by itself."


@dataclass(frozen=True)
class AttemptEnd:
    """Tells how an attempt left its child. `healthy` is false when the child is gone or must not be used again.

    Where the request went back for want of memory: `waits_for`, the bytes that were refused; `lacked_memory`, if
    loading a model ran out of it; `paused`, if it made room for the other lane.
    """

    healthy: bool
    succeeded: bool = False
    waits_for: int | None = None
    lacked_memory: bool = False
    paused: bool = False


class AttemptRun:
    """Carries one claim through one child."""

    def __init__(
        self,
        claim: Claim,
        child: ChildProcess,
        store: Store,
        settings: Settings,
        meter: EnergyMeter,
        ask_memory: AskLedger,
    ) -> None:
        self._claim = claim
        self._ask_memory = ask_memory
        self._refused: tuple[int, Answer] | None = None  # the fewest bytes last asked for, and why not
        self._asks_too_much = False  # was granted more than the device has
        self._first_step: int | None = None  # that this attempt told of
        self._pausing = asyncio.Event()
        self._child = child
        self._store = store
        self._settings = settings
        self._log = structlog.get_logger().bind(
            request_id=claim.request.id, endpoint=claim.request.endpoint_id, attempt=claim.attempt
        )
        self._meter = meter
        self._joules = meter.joules()  # before it began
        self._notes = ProgressNotes()
        self._lines: list[LogLine] = []
        self._step, self._total = claim.request.step, claim.request.total_steps
        self._metrics: dict[str, float] = {}
        self._checkpoint: int | None = None
        self._beaten_at = 0.0
        self._kill_at: float | None = None  # when the grace of a job that was asked to stop ends
        self._cancelling = self._finishing = False
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Asks the job to checkpoint and stop; it has DRAIN_SECONDS for that."""
        self._draining.set()

    @property
    def request_id(self) -> str:
        return self._claim.request.id

    @property
    def how_far(self) -> str:
        """Says what runs, and how far it is."""
        what = "a training" if self._claim.request.kind == "training" else "what is being generated"
        return f"{what} (step {self._step} of {self._total})" if self._total else what

    @property
    def has_advanced(self) -> bool:
        """Tells whether this attempt has come further than where it began."""
        return self._first_step is not None and self._step > self._first_step

    def pause(self) -> None:
        """Asks the job to checkpoint and give its request back."""
        self._pausing.set()

    async def run(self) -> AttemptEnd:
        """Runs the attempt to its end. Never raises for what a job, a person or the database does."""
        request = self._claim.request
        self._log.info("attempt started", pid=self._child.pid)
        run = Run(
            say="run",
            request_id=request.id,
            token=self._claim.token,
            attempt=self._claim.attempt,
            endpoint_id=request.endpoint_id,
            input=request.input,
            origin=request.origin,
            is_rehearsal=request.is_rehearsal,
        )
        if self._claim.model is not None:
            run["model"] = asdict(self._claim.model.reference)
        await self._child.send(run)
        watches = [asyncio.create_task(self._pass_on_drain()), asyncio.create_task(self._pass_on_pause())]
        try:
            return await self._follow()
        except LeaseLost:
            self._log.warning("lease lost: another worker has this request now")
            await self._child.kill()
            return AttemptEnd(healthy=False)
        finally:
            for watch in watches:
                watch.cancel()

    async def _follow(self) -> AttemptEnd:
        while True:
            ended = await self._listen(PROMPT_SECONDS / 2)
            if ended is not None:
                return ended
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                return await self._cut_short()
            await self._beat_if_due()

    async def _listen(self, seconds: float) -> AttemptEnd | None:
        """Waits for the child's next message, so long and no longer."""
        try:
            async with asyncio.timeout(seconds):
                message = await self._child.messages.get()
        except TimeoutError:
            return None
        return await (self._died() if message is None else self._hear(message))

    # --- what the child says ----------------------------------------------------------------------------------
    async def _hear(self, message: FromChild) -> AttemptEnd | None:
        """Takes one message in; an AttemptEnd when it was the last."""
        if message["say"] == "ready" or message["say"] == "holds_memory":
            return None  # about the child, not about a job
        if message["request_id"] != self._claim.request.id:
            return None  # of an attempt that has ended
        match message["say"]:
            case "ask_file":
                await self._insist(lambda: self._answer_file(message))
            case "log":
                self._note(message["message"], message["level"], message["at"])
            case "ask_memory":
                await self._answer_memory(message)
            case "progress":
                self._step, self._total = message["step"], message["total"]
                self._first_step = self._step if self._first_step is None else self._first_step
                if line := self._notes.take(self._step, self._total, message["metrics"]):
                    self._note(line)
                self._metrics = message["metrics"] | self._notes.pace(self._step, self._total)
            case "checkpoint":
                self._checkpoint = message["step"]
            case "done":
                await self._complete(message["output"], message["files"])
                return AttemptEnd(healthy=True, succeeded=True)
            case "failed":
                await self._fail(Failure.from_json(message["failure"]))
                return AttemptEnd(healthy=True)
            case "drained":
                if self._pausing.is_set() and not self._draining.is_set():
                    self._note(_PAUSED)
                    await self._release(Ending.WAITED, _PAUSED)
                    return AttemptEnd(healthy=True, paused=True)
                await self._release(Ending.DRAINED, "drained")
                return AttemptEnd(healthy=True)
            case "waits":
                assert self._refused is not None, "it was told so"
                needed, answer = self._refused
                self._note(answer.reason)
                await self._release(Ending.WAITED, answer.reason, waits_for=answer.behind)
                return AttemptEnd(healthy=True, waits_for=needed)
            case "lacked_memory" if self._asks_too_much:  # it would lack it again
                await self._fail(OutOfMemory(message["message"]).failure())
                return AttemptEnd(healthy=True)
            case "lacked_memory":
                self._note(message["message"], "WARN")
                await self._release(Ending.OUT_OF_MEMORY, message["message"])
                return AttemptEnd(healthy=True, lacked_memory=True)
            case other:
                assert_never(other)
        return None

    async def _answer_file(self, question: AskFile) -> None:
        readable = await self._store.files.is_readable(question["reference"], self._claim.request.key_id)
        await self._child.send(FileAnswer(say="file", number=question["number"], readable=readable))

    async def _answer_memory(self, question: AskMemory) -> None:
        answer = await self._ask_memory(question["most"], question["least"], question["what"])
        if not answer.granted:
            self._refused = question["least"], answer
        self._asks_too_much = answer.available is not None and answer.granted and answer.available < question["least"]
        told = MemoryAnswer(
            say="memory",
            number=question["number"],
            granted=answer.granted,
            available=answer.available,
            reason=answer.reason,
        )
        await self._child.send(told)

    def _note(self, message: str, level: str = "INFO", at: float | None = None) -> None:
        self._lines.append(LogLine(number=0, at=time.time() if at is None else at, level=level, message=message))

    # --- what the queue is told -------------------------------------------------------------------------------
    async def _beat_if_due(self) -> None:
        waits = self._lines or self._checkpoint is not None
        if time.monotonic() - self._beaten_at < (PROMPT_SECONDS if waits else BEAT_SECONDS):
            return
        try:
            await self._beat()
        except DATABASE_AWAY as problem:
            self._log.warning("the database did not answer; the job goes on", problem=str(problem))
        self._beaten_at = time.monotonic()

    async def _beat(self) -> None:
        lines, checkpoint = tuple(self._lines), self._checkpoint
        beat = await self._store.leases.heartbeat(
            self._claim,
            step=self._step,
            total=self._total,
            metrics=dict(self._metrics),
            checkpoint_step=checkpoint,
            logs=lines,
        )
        del self._lines[: len(lines)]
        if self._checkpoint == checkpoint:
            self._checkpoint = None
        if beat.stop and not self._finishing:
            self._finishing = True
            self._log.info("stop asked for")
            await self._child.send(Finish(say="finish", request_id=self._claim.request.id))
        if beat.cancel and not self._cancelling:
            self._cancelling = True
            self._log.info("cancel asked for")
            self._kill_at = time.monotonic() + self._settings.cancel_grace_seconds
            await self._child.send(Cancel(say="cancel", request_id=self._claim.request.id))

    async def _complete(self, output: dict[str, Any], files: list[dict[str, Any]]) -> None:
        request = self._claim.request
        now = time.time()
        stored = [StoredFile(**file, created_at=now, request_id=request.id, key_id=request.key_id) for file in files]
        await self._tell_finally()
        logs, used = self._lines, self._watt_hours()
        await self._insist(lambda: self._store.leases.complete(self._claim, output, stored, logs=logs, watt_hours=used))
        self._log.info("attempt succeeded", files=len(stored))

    async def _fail(self, failure: Failure) -> None:
        await self._tell_finally()
        logs, used = self._lines, self._watt_hours()
        await self._insist(lambda: self._store.leases.fail(self._claim, failure, logs=logs, watt_hours=used))
        self._log.info("attempt failed", error_type=failure.error_type, detail=failure.body.get("message"))

    async def _release(self, ending: Ending, cause: str, *, waits_for: str | None = None) -> None:
        await self._tell_finally()
        leases, used = self._store.leases, self._watt_hours()
        await self._insist(lambda: leases.release(self._claim, ending, cause, watt_hours=used, waits_for=waits_for))
        self._log.info("attempt given back", ending=ending.value, cause=cause)

    def _watt_hours(self) -> float | None:
        """Tells what the device took since the attempt began."""
        joules = self._meter.joules()
        return None if joules is None or self._joules is None else max(0.0, joules - self._joules) / 3600

    async def _tell_finally(self) -> None:
        """Sends the last step, checkpoint and lines, which no later beat will carry."""
        if self._lines or self._checkpoint is not None or self._step:
            await self._insist(self._beat)

    async def _insist(self, tell: Callable[[], Awaitable[object]]) -> None:
        """Repeats it until the database takes it, or says that the lease is gone (which ends the waiting)."""
        while True:
            try:
                await tell()
                return
            except DATABASE_AWAY as problem:
                self._log.warning("the database did not answer; trying again", problem=str(problem))
                await asyncio.sleep(RETRY_SECONDS)

    # --- ends that the child did not choose -------------------------------------------------------------------
    async def _died(self) -> AttemptEnd:
        cause = await self._child.wait()
        if self._cancelling:
            await self._fail(Cancelled().failure())
        elif self._kill_at is None and self._child.lacked_memory:  # it would lack it again
            await self._fail(too_little(self._child.memory.bytes).failure())
        else:
            await self._release(Ending.DRAINED if self._draining.is_set() else Ending.DIED, cause)
        return AttemptEnd(healthy=False)

    async def _cut_short(self) -> AttemptEnd:
        """Frees the device by force, when the job did not stop by itself in time."""
        self._log.warning("the job did not stop by itself; its process is killed")
        await self._child.kill()
        return await self._died()

    async def _pass_on_pause(self) -> None:
        await self._pausing.wait()
        self._log.info("paused: the other lane needs its memory")
        await self._child.send(Pause(say="pause", request_id=self._claim.request.id))

    async def _pass_on_drain(self) -> None:
        await self._draining.wait()
        if self._kill_at is None:
            self._kill_at = time.monotonic() + DRAIN_SECONDS
        await self._child.send(Stop(say="stop"))
