"""The training loop, the same for every family: noise, predict, compare, step, and be ready to die at any moment.

Every random choice is a function of seed and step, and the state is flat buffers, so that a run that was killed and
resumed ends with the very bits of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tintype.errors import Drained, NonFiniteLoss
from tintype.families.family import Family, Latents
from tintype.jobs.context import JobContext
from tintype.training.adapters import Adapter
from tintype.training.batches import Batches
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState, restore, save

MOST_BAD_STEPS = 5  # non-finite losses in a row that end the run
_EMA_RAMP = 10  # steps after which the average is as slow as it will be, roughly


@dataclass(frozen=True)
class Plan:
    """How to train. `learning_rate` is the effective one.

    A checkpoint comes after `checkpoint_steps` or `checkpoint_seconds`, whichever is first.
    """

    steps: int
    learning_rate: float
    batch_size: int = 1
    seed: int = 0
    guidance: float = 1.0
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    largest_gradient: float = 1.0
    ema_decay: float = 0.99
    autocast: bool = False
    checkpoint_steps: int = 250
    checkpoint_seconds: float = 30.0
    keep_every: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Trained:
    """What a run leaves: the averaged weights (flat, as in Adapter), and figures for the report."""

    weights: torch.Tensor
    losses: list[float]
    skipped: int
    seconds: float
    resumed_from: int = 0
    threads: int = field(default_factory=torch.get_num_threads)

    @property
    def steps_per_second(self) -> float:
        done = len(self.losses) - self.resumed_from
        return done / self.seconds if self.seconds > 0 else 0.0


def train(
    family: Family,
    adapter: Adapter,
    cache: Cache,
    plan: Plan,
    context: JobContext,
    *,
    keepsakes: Path,
    keep: Callable[[int, torch.Tensor], None] = lambda step, weights: None,
) -> Trained:
    """Trains `adapter` in place and returns its averaged weights.

    `keep` gets (step, averaged weights) every `plan.keep_every` steps; what it writes into the folder `keepsakes` is
    part of every later checkpoint and is there again after resuming. Raises Cancelled within a step of being asked,
    and NonFiniteLoss when the loss stays non-finite.
    """
    keepsakes.mkdir(parents=True, exist_ok=True)
    run = _Run(family, adapter, cache, plan, context, keepsakes)
    started_at = run.state.step
    began = time.monotonic()
    with adapter.attached(family.load_transformer()) as transformer:
        transformer.requires_grad_(False)
        adapter.weights.requires_grad_(True)
        for down, up in adapter.layers.values():
            down.requires_grad_(True)
            up.requires_grad_(True)
        while run.state.step < plan.steps:
            run.stop_if_asked()
            loss = run.step(transformer)
            context.progress(run.state.step, plan.steps, loss=loss, learning_rate=run.learning_rate)
            if plan.keep_every and run.state.step % plan.keep_every == 0:
                keep(run.state.step, run.state.average)
            run.checkpoint_if_due()
    return Trained(run.state.average, run.state.losses, run.state.skipped, time.monotonic() - began, started_at)


class _Run:
    """One attempt: state, optimiser, and the pieces of a step."""

    def __init__(
        self, family: Family, adapter: Adapter, cache: Cache, plan: Plan, context: JobContext, keepsakes: Path
    ) -> None:
        self.family, self.adapter, self.cache, self.plan, self.context = family, adapter, cache, plan, context
        self.keepsakes = keepsakes
        self.batches = Batches(cache.items, plan.batch_size, plan.seed)
        self.optimizer = torch.optim.AdamW(
            [adapter.weights], lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay, fused=True
        )
        self.identity = _identity(family, adapter, cache, plan)
        self.state = TrainingState.new(adapter.weights.data)
        self.bad_in_a_row = 0
        self.saved_at = time.monotonic()
        if (kept := context.checkpoint.latest()) is not None:
            taken = restore(kept.path, self.identity, adapter.weights.data, self.optimizer, self.state, keepsakes)
            said = f"Training goes on from step {self.state.step}." if taken else "Training starts from the beginning: "
            context.log(said if taken else f"{said}the checkpoint is of other photos, settings or weights.")

    @property
    def learning_rate(self) -> float:
        """Constant after a short linear start."""
        return self.plan.learning_rate * min(1.0, (self.state.step + 1) / max(1, self.plan.warmup_steps))

    def step(self, transformer: torch.nn.Module) -> float:
        """One optimiser step; returns its loss (NaN when it was skipped)."""
        plan, state = self.plan, self.state
        loss = self._loss(transformer, self.batches.at(state.step))
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        gradient = self.adapter.weights.grad
        assert gradient is not None
        size = gradient.norm().item()
        if math.isfinite(value) and math.isfinite(size):
            self.bad_in_a_row = 0
            if size > plan.largest_gradient:
                gradient.mul_(plan.largest_gradient / size)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            self.optimizer.step()
            decay = min(plan.ema_decay, (state.step + 1) / (state.step + _EMA_RAMP))
            state.average.lerp_(self.adapter.weights.data, 1 - decay)
        else:
            self._skip(value)
            value = math.nan
        gradient.zero_()
        state.losses.append(value)
        state.step += 1
        return value

    def _loss(self, transformer: torch.nn.Module, items: list[Item]) -> torch.Tensor:
        family, device = self.family, self.family.device
        # On the CPU whatever the device: the same seed gives the same noise everywhere.
        dice = torch.Generator().manual_seed(_mix(self.plan.seed, self.state.step))
        clean = torch.stack([item.latents for item in items])
        noise = torch.randn(clean.shape, generator=dice)
        rows, columns = items[0].shape
        sigma = family.sample_sigmas(len(items), rows, columns, dice)
        wide = sigma[:, None, None]
        noisy = Latents(torch.lerp(clean, noise, wide).to(device), rows, columns)
        features = self.cache.features_of(items)
        features = type(features)(features.tokens.to(device), features.pooled.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.plan.autocast):
            predicted = family.predict_velocity(transformer, noisy, sigma, features, self.plan.guidance)
        error = (predicted.float() - (noise - clean).to(device)).square().mean(-1)  # (batch, tokens)
        weights = [item.weights for item in items]
        if any(weight is not None for weight in weights):
            flat = torch.ones(clean.shape[1])
            error = error * torch.stack([flat if weight is None else weight for weight in weights]).to(device)
        return error.mean()

    def _skip(self, value: float) -> None:
        self.state.skipped += 1
        self.bad_in_a_row += 1
        self.context.log(f"Step {self.state.step + 1}: the loss is {value}; the step is skipped.", "WARN")
        if self.bad_in_a_row >= MOST_BAD_STEPS:
            raise NonFiniteLoss(
                f"Training diverged: the loss was not finite {MOST_BAD_STEPS} times in a row, up to step "
                f"{self.state.step + 1}.",
                remedy="Lower learning_rate.",
            )

    def stop_if_asked(self) -> None:
        """Raises Cancelled, or Drained after a last checkpoint: the request goes on elsewhere from there."""
        try:
            self.context.raise_if_cancelled()
        except Drained:
            if self.state.step:
                self.checkpoint()
            raise

    def checkpoint_if_due(self) -> None:
        """A checkpoint every so many steps or seconds, none after the last step: export follows at once."""
        plan, step = self.plan, self.state.step
        late = time.monotonic() - self.saved_at >= plan.checkpoint_seconds
        if step < plan.steps and (late or step % plan.checkpoint_steps == 0):
            self.checkpoint()

    def checkpoint(self) -> None:
        self.context.checkpoint.save(
            self.state.step,
            lambda folder: save(
                folder, self.identity, self.adapter.weights.data, self.optimizer, self.state, self.keepsakes
            ),
        )
        self.saved_at = time.monotonic()


def _identity(family: Family, adapter: Adapter, cache: Cache, plan: Plan) -> str:
    """Of everything that decides what a step does: base, data, start, and settings. A checkpoint belongs to one."""
    start = hashlib.sha256(adapter.weights.detach().cpu().numpy().tobytes()).hexdigest()[:16]
    cadence = {"steps", "checkpoint_steps", "checkpoint_seconds", "keep_every"}
    settings = {name: value for name, value in plan.to_json().items() if name not in cadence}
    return f"{family.weights.fingerprint} {cache.digest} {start} {json.dumps(settings)}"


def _mix(seed: int, step: int) -> int:
    """A seed for one step; neighbours share nothing (splitmix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
