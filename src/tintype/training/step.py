"""One step of training: make noise, predict, compare, and move the adapter. It knows no jobs, logs or checkpoints.

Every random choice is a function of seed and step, so that a step can be taken again after a crash and gives the very
same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from tintype.devices import free_bytes
from tintype.errors import OutOfMemory
from tintype.lora.adapter import Adapter
from tintype.models.family import Family, Forward, Latents
from tintype.training.batches import Batches
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState
from tintype.training.memory_plan import MemoryPlan, Shape, is_out_of_memory, plan_memory
from tintype.training.optimizers import new_optimizer
from tintype.training.plan import Plan

_STEPS_WORTH_COMPILING = 300  # compiling takes minutes, and saves tenths of a second a step
_EMA_RAMP = 10  # steps after which the average is as slow as it will be, roughly


@dataclass(frozen=True)
class Outcome:
    """What a step came to. It was `taken` only if loss and gradient were finite."""

    loss: float
    gradient_size: float

    @property
    def taken(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_size)


class Stepper:
    """Takes one optimiser step after another on an adapter of a family's transformer.

    How many blocks are recomputed follows from the memory at hand unless `recomputed` says it; the order of work, from
    device and plan unless `forward` does. `log` hears what was chosen.
    """

    def __init__(
        self,
        family: Family,
        adapter: Adapter,
        cache: Cache,
        plan: Plan,
        *,
        recomputed: int | None = None,
        forward: Forward | None = None,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._recomputed, self._log = recomputed, log
        long = family.device.type == "cuda" and plan.steps >= _STEPS_WORTH_COMPILING
        self.forward = family.forward_for(forward or (Forward.COMPILED if long else Forward.OWN))
        self.family, self.adapter, self.cache, self.plan = family, adapter, cache, plan
        self.batches = Batches(cache.items, plan.batch_size, plan.seed)
        self.optimizer = new_optimizer(plan.optimizer, adapter.weights, plan.learning_rate, plan.weight_decay)
        self._adapted = ExitStack()
        self.memory = MemoryPlan(0, "", 0)
        self._network: Any = None

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Steps are taken inside; afterwards the transformer is bare again, whatever happens."""
        # No name for the transformer here: what is unloaded in a pause must be free then.
        self.family.load_transformer().requires_grad_(False)
        self.adapter.require_gradients()
        self.memory = self._memory_plan(self.family.load_transformer())
        self._log(self.memory.summary + self._about_compiling())
        with ExitStack() as self._adapted:
            self._adapt()
            try:
                yield
            finally:
                self._network = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Makes the transformer as bare as it is outside of `prepared`, between two steps."""
        self._adapted.close()
        self._network = None
        try:
            yield
        finally:
            self._adapt()

    def _adapt(self) -> None:
        self._adapted.close()
        adapted = self.family.adapted(
            self.adapter, self.forward, recomputed=self.memory.recomputed, rounded=self.plan.autocast
        )
        self._network = self._adapted.enter_context(adapted)

    def _memory_plan(self, transformer: Any) -> MemoryPlan:
        """For the largest image of the run."""
        text = self.cache.features.tokens.shape[1]
        tokens = text + max(rows * columns for rows, columns in {item.shape for item in self.cache.items})
        shape = Shape.of(
            transformer,
            self.family.kept_values(self.forward),
            tokens=tokens,
            batch=self.plan.batch_size,
            trained=self.adapter.weights.numel(),
        )
        if self._recomputed is not None:
            summary = f"{self._recomputed} of {shape.blocks} blocks are recomputed, as asked."
            return MemoryPlan(self._recomputed, summary, shape.blocks)
        return plan_memory(shape, free_bytes(self.family.device) + shape.weights)

    def _about_compiling(self) -> str:
        if self.forward is Forward.COMPILED:
            return " The blocks are compiled: the first step of each size takes a minute or so."
        if self.family.device.type == "cuda":
            return f" Nothing is compiled: that pays from {_STEPS_WORTH_COMPILING} steps."
        return ""

    def learning_rate(self, step: int) -> float:
        """Computes the rate of a step counted from 0: a short linear start, then polynomial decay."""
        plan = self.plan
        warm = min(1.0, (step + 1) / max(1, plan.warmup_steps))
        return plan.learning_rate * warm * math.pow(1 - step / plan.steps, plan.decay_power)

    def take(self, state: TrainingState) -> Outcome:
        """Takes the step after `state.step`: moves adapter, optimiser and average; the caller keeps the books."""
        plan, step = self.plan, state.step
        loss = self._differentiated(step)
        gradient = self.adapter.weights.grad
        assert gradient is not None
        outcome = Outcome(loss.item(), gradient.norm().item())
        if outcome.taken:
            if outcome.gradient_size > plan.largest_gradient:
                gradient.mul_(plan.largest_gradient / outcome.gradient_size)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(step)
            self.optimizer.step()
            decay = min(plan.ema_decay, (step + 1) / (step + _EMA_RAMP))
            state.average.lerp_(self.adapter.weights.data, 1 - decay)
        gradient.zero_()
        return outcome

    def _differentiated(self, step: int) -> torch.Tensor:
        """The loss, its gradient in the adapter's buffer; once again with more recomputed if memory runs out."""
        try:
            return self.differentiate(step)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self._recomputed is not None or not self.memory.can_step_down:
                raise OutOfMemory(
                    "A training step does not fit into memory, even with every block recomputed.",
                    remedy="Free memory on the device, or train without multiresolution_training.",
                ) from error
        # Outside the handler: its traceback holds on to the tensors that did not fit.
        assert self.adapter.weights.grad is not None
        self.adapter.weights.grad.zero_()
        self.memory = self.memory.stepped_down()
        self._log(self.memory.summary)
        self._adapt()
        if self.family.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._differentiated(step)

    def differentiate(self, step: int) -> torch.Tensor:
        """Computes the loss of a step; its gradient is added to the adapter's."""
        loss = self.loss(self.batches.at(step), step)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def loss(self, items: list[Item], step: int) -> torch.Tensor:
        """Computes the mean squared error of the predicted velocity, weighted by token where an image has a mask."""
        family, device = self.family, self.family.device
        # On the CPU whatever the device: the same seed gives the same noise everywhere.
        generator = torch.Generator().manual_seed(seed_of(self.plan.seed, step))
        clean = torch.stack([item.latents for item in items])
        noise = torch.randn(clean.shape, generator=generator)
        rows, columns = items[0].shape
        sigma = family.sample_sigmas(len(items), rows, columns, generator)
        wide = sigma[:, None, None]
        noisy = Latents(torch.lerp(clean, noise, wide).to(device), rows, columns)
        features = self.cache.features_of(items)
        # Our own order of work knows by itself which product is rounded.
        autocast = self.plan.autocast and self.forward is not Forward.OWN
        with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
            predicted = family.predict_velocity(self._network, noisy, sigma, features, self.plan.guidance)
        error = (predicted.float() - (noise - clean).to(device)).square().mean(-1)  # (batch, tokens)
        weights = [item.weights for item in items]
        if any(weight is not None for weight in weights):
            flat = torch.ones(clean.shape[1])
            error = error * torch.stack([flat if weight is None else weight for weight in weights]).to(device)
        return error.mean()


def seed_of(seed: int, step: int) -> int:
    """Makes a seed for one step; neighbours share nothing (splitmix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
