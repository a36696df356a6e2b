"""The training loop, the same for every family: step after step, and resumable after each.

A step is a function of seed and number (`step`), and the state is flat buffers, so that a run that was killed and
resumed ends with the very bits of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tintype.errors import Drained, NonFiniteLoss
from tintype.job import DRAIN_SECONDS, JobContext
from tintype.lora.adapter import Adapter
from tintype.lora.lora import Lora
from tintype.models.family import Family
from tintype.training.cache import Cache
from tintype.training.checkpoint import TrainingState, copy_state, restore, write_snapshots
from tintype.training.checkpoint_writer import CheckpointWriter
from tintype.training.plan import Plan
from tintype.training.schedule import learning_rate
from tintype.training.state_file import check_state
from tintype.training.step import Outcome, Reserve, Stepper

__all__ = ["MOST_BAD_STEPS", "Plan", "Trained", "train"]

MOST_BAD_STEPS = 5  # non-finite losses in a row that end the run
_DRAIN_SHARE = 0.75  # of the time to drain, for writing; a step may be under way before


@dataclass
class Trained:
    """What a run leaves: the LoRA of the averaged weights, and figures for the report."""

    lora: Lora
    losses: list[float]
    skipped: int
    seconds: float  # of all attempts together, as far as their steps count; samples and checkpoints are not in it
    resumed_from: int = 0
    threads: int = field(default_factory=torch.get_num_threads)
    order: dict[str, Any] = field(default_factory=dict)  # of work in a step, as the stepper tells it

    @property
    def steps_per_second(self) -> float:
        """Gives the pace of the steps alone."""
        return len(self.losses) / self.seconds if self.seconds > 0 else 0.0


def train(
    family: Family,
    adapter: Adapter,
    cache: Cache,
    plan: Plan,
    context: JobContext,
    *,
    snapshot_dir: Path,
    on_snapshot: Callable[[int, Lora], bool] = lambda step, lora: False,
    reserve: Reserve | None = None,
    steps_a_reading: int | None = None,
    must_go_on: bool = False,
) -> Trained:
    """Trains `adapter` in place and returns the LoRA of its averaged weights.

    `on_snapshot` gets (step, that LoRA) every `plan.keep_every` steps and at `plan.score_at`, with the transformer
    bare, so that it may generate; where it returns True, the run ends there. What it writes into `snapshot_dir` is part
    of every later checkpoint and is there again after resuming; it is called again for a step whose work may be
    unfinished, and finds what it wrote. The run also ends, well, at a step at which the person asks it to finish. A
    checkpoint is begun before it is called for a step of `plan.score_at`.
    Whatever ends the process after the last step, the next attempt finds all steps done. `reserve` is asked for the
    steps' memory. Losses are read every `steps_a_reading` steps, by itself ten on a GPU. Raises Cancelled within a step
    of being asked, NonFiniteLoss when the loss stays non-finite, and, with `must_go_on`, InputError for a checkpoint of
    another training.
    """
    snapshot_dir.mkdir(parents=True, exist_ok=True)
    run = _Run(family, adapter, cache, plan, context, snapshot_dir, reserve, steps_a_reading, must_go_on)
    started_at = run.state.step
    if started_at:
        context.progress(started_at, plan.steps)  # perhaps no step is left that would say so
    with run.writer:
        try:
            with run.stepper.prepared():
                while True:
                    enough = run.snapshot_if_due(on_snapshot) or run.is_asked_to_finish()
                    run.checkpoint_if_due(enough)
                    if enough or run.state.step >= plan.steps:
                        break
                    context.raise_if_cancelled()
                    run.step()
        except Drained:
            run.last_checkpoint()  # the request goes on elsewhere, from here
            raise
        run.end()
    state = run.state
    return Trained(
        adapter.lora(state.average),
        state.losses,
        state.skipped,
        state.seconds,
        resumed_from=started_at,
        order=run.stepper.figures(),
    )


class _Run:
    """One attempt: its state, and what happens around a step."""

    def __init__(
        self,
        family: Family,
        adapter: Adapter,
        cache: Cache,
        plan: Plan,
        context: JobContext,
        snapshot_dir: Path,
        reserve: Reserve | None = None,
        steps_a_reading: int | None = None,
        must_go_on: bool = False,
    ) -> None:
        self.adapter, self.plan, self.context, self.snapshot_dir = adapter, plan, context, snapshot_dir
        self.stepper = Stepper(family, adapter, cache, plan, reserve=reserve, log=context.log)
        self.identity = _identity(family, adapter, cache, plan)
        self.state = TrainingState.new(adapter.weights.data)
        self.steps_a_reading = steps_a_reading or self.stepper.steps_a_reading
        self.unread: list[Outcome] = []
        self.bad_in_a_row = 0
        self.writer = CheckpointWriter(context.checkpoint, context.settings.checkpoint_seconds, context.log)
        if (kept := context.checkpoint.latest()) is not None:
            if must_go_on:
                check_state(kept.path, self.identity, adapter.weights, plan.optimizer)
            if restore(kept.path, self.identity, self.state, self.stepper.optimizer, snapshot_dir):
                context.log(f"Training goes on from step {self.state.step}.")
            else:
                context.log(
                    "Training starts from the beginning: the checkpoint is of other photos, settings or weights."
                )
            self.writer.saved_step = self.state.step

    def step(self) -> None:
        """Takes one optimiser step, and now and then looks how those before came out."""
        began = time.monotonic()
        self.unread.append(self.stepper.take(self.state))
        self.state.step += 1
        self.state.seconds += time.monotonic() - began
        if len(self.unread) >= self.steps_a_reading or self.state.step >= self.plan.steps:
            self.read()

    def read(self) -> None:
        """Keeps the books of the steps that were taken since: their losses, NaN for those that were skipped."""
        state, unread, self.unread = self.state, self.unread, []
        began = time.monotonic()
        for outcome in unread:
            state.losses.append(outcome.loss if outcome.taken else math.nan)
            self.bad_in_a_row = 0 if outcome.taken else self.bad_in_a_row + 1
            if not outcome.taken:
                self._skip(outcome.loss)
        state.seconds += time.monotonic() - began
        if unread:
            rate = learning_rate(self.plan, state.step - 1)
            self.context.progress(state.step, self.plan.steps, loss=state.losses[-1], learning_rate=rate)

    def _skip(self, value: float) -> None:
        step = len(self.state.losses)
        self.state.skipped += 1
        self.context.log(f"Step {step}: the loss is {value}; the step is skipped.", "WARN")
        if self.bad_in_a_row >= MOST_BAD_STEPS:
            raise NonFiniteLoss(
                f"Training diverged: the loss was not finite {MOST_BAD_STEPS} times in a row, up to step {step}.",
                remedy="Lower learning_rate.",
            )

    def snapshot_if_due(self, on_snapshot: Callable[[int, Lora], bool]) -> bool:
        """Hands over the LoRA as it is every so many steps; tells whether it is good enough."""
        step, every = self.state.step, self.plan.keep_every
        if step in self.plan.score_at and not self.writer.is_busy():  # one that is being written is new enough
            self.checkpoint()  # scoring takes long, and steps would be lost with it
        if (every and step and step % every == 0) or step in self.plan.score_at:
            with self.stepper.paused():
                return on_snapshot(step, self.adapter.lora(self.state.average))
        return False

    def is_asked_to_finish(self) -> bool:
        """Tells whether the person wants what there is by now."""
        step = self.state.step
        if not step or step >= self.plan.steps or not self.context.is_asked_to_finish():
            return False
        self.context.log(f"Stopped as asked, after step {step} of {self.plan.steps}: this LoRA is finished.")
        return True

    def checkpoint_if_due(self, is_last: bool) -> None:
        """Saves when it is time, and after the last step: what follows takes minutes too."""
        plan, step = self.plan, self.state.step
        counted = plan.checkpoint_steps is not None and step % plan.checkpoint_steps == 0
        if self.writer.is_due() or counted or is_last or step >= plan.steps:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Saves where the run is, while it goes on."""
        self.read()
        state = self.state
        self.writer.begin(
            state.step, lambda: copy_state(self.identity, state, self.stepper.optimizer, self.snapshot_dir)
        )

    def last_checkpoint(self) -> None:
        """Saves where the run is, if there is time for that, and waits for what is being saved."""
        if self.writer.can_end_within(_DRAIN_SHARE * DRAIN_SECONDS):
            self.checkpoint()
        self.writer.wait()

    def end(self) -> None:
        """Waits until everything is saved, what was kept at the last step too: what follows takes minutes."""
        kept = [*self.snapshot_dir.glob("*")]
        self.writer.complete(self.state.step, lambda folder: write_snapshots(kept, folder))


def _identity(family: Family, adapter: Adapter, cache: Cache, plan: Plan) -> str:
    """Of everything that decides what a step does: base, data, start, and settings. A checkpoint belongs to one."""
    start = hashlib.sha256(adapter.weights.detach().cpu().numpy().tobytes()).hexdigest()[:16]
    cadence = {"steps", "checkpoint_steps", "keep_every", "score_at"}  # no step depends on how many there are
    settings = {name: value for name, value in plan.to_json().items() if name not in cadence}
    return f"{family.weights.fingerprint} {cache.digest} {start} {json.dumps(settings)}"
