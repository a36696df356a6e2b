"""One step of training: predict, compare, and move the adapter. It knows no jobs, logs or checkpoints.

Nothing in a step waits for the device: whether it is taken is decided there, and its figures are read by whoever asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from tintype.devices import free_bytes, lacking_for_compiling
from tintype.errors import OutOfMemory
from tintype.lora.adapter import Adapter
from tintype.models.attention import kernels_in_order
from tintype.models.blocks import BlockCompiler
from tintype.models.family import Family, Forward
from tintype.training.cache import Cache
from tintype.training.checkpoint import TrainingState
from tintype.training.memory_plan import MemoryPlan, PeakMeter, Shape, asked_for, is_out_of_memory, plan_memory
from tintype.training.optimizers import new_optimizer
from tintype.training.plan import Plan
from tintype.training.schedule import learning_rate, newest_share
from tintype.training.step_inputs import StepInput, StepInputs

# Asks for bytes beside what is loaded, the most that are of use and the fewest; returns how many may be had.
Reserve = Callable[[int, int], int]

_STEPS_WORTH_COMPILING = 300  # compiling takes minutes, and saves tenths of a second a step
_LONGEST_REASON = 200  # characters of what a compiler says
_STEPS_A_READING = 10  # of a GPU's figures; reading them waits for all it has been given to do


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a step came to. It was `taken` only if loss and gradient were finite.

    figures: (2,), loss and size of the gradient, on the device; the first look at one of them waits for the step.
    """

    figures: torch.Tensor

    @cached_property
    def _read(self) -> list[float]:
        figures: list[float] = self.figures.tolist()
        return figures

    @property
    def loss(self) -> float:
        return self._read[0]

    @property
    def gradient_size(self) -> float:
        return self._read[1]

    @property
    def taken(self) -> bool:
        return all(map(math.isfinite, self._read))


class Stepper:
    """Takes one optimiser step after another on an adapter of a family's transformer.

    How many blocks are recomputed follows from the memory at hand unless `recomputed` says it; the order of work, from
    device and plan unless `forward` does. What the first step really took corrects the former, where `meter` can tell.
    `reserve` is asked for memory; without it, all that is free is taken. `log` hears what was chosen.
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
        meter: PeakMeter | None = None,
        reserve: Reserve | None = None,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._recomputed, self._log = recomputed, log
        self._reserve = reserve or (lambda most, least: free_bytes(family.device))
        chosen, self.why_not_compiled = _chosen_forward(family.device.type, plan.steps)
        self.forward = family.forward_for(forward or chosen)
        self.compiler: BlockCompiler | None = None
        self.family, self.adapter, self.cache, self.plan = family, adapter, cache, plan
        self.inputs = StepInputs(family, cache, plan)
        self.optimizer = new_optimizer(plan.optimizer, adapter.weights, plan.learning_rate, plan.weight_decay)
        # Fused ones leave everything as it is where a flag on the device says so.
        self._skips_on_device = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        on_gpu = family.device.type == "cuda"
        self.steps_a_reading = _STEPS_A_READING if on_gpu and self._skips_on_device else 1
        self._meter = meter or (PeakMeter(family.device) if on_gpu else None)
        self._ahead: StepInput | None = None
        self._first = self.forward is Forward.COMPILED  # a step that compiles takes other memory than those after it
        self._adapted = ExitStack()
        self.memory = MemoryPlan(0, "", 0)
        self._free = 0  # bytes that the plan was made for
        self._network: Any = None

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Steps are taken inside; afterwards the transformer is bare again, whatever happens."""
        # No name for the transformer here: what is unloaded in a pause must be free then.
        self.family.load_transformer().requires_grad_(False)
        self.adapter.require_gradients()
        self.memory = self._memory_plan()
        if self.forward is Forward.COMPILED:
            self.compiler = BlockCompiler()
            self._log(f"{self.memory.summary} The blocks are being compiled, which takes minutes of the first steps.")
        else:
            self._log(f"{self.memory.summary} {self.why_not_compiled}".rstrip())
        with kernels_in_order(self.family.device), ExitStack() as self._adapted:
            self._adapt()
            try:
                yield
            finally:
                self._network = self._ahead = None

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
            self.adapter,
            self.forward,
            recomputed=self.memory.recomputed,
            rounded=self.plan.autocast,
            compiler=self.compiler,
        )
        self._network = self._adapted.enter_context(adapted)

    def _shape(self, tokens: int) -> Shape:
        """Of a step whose images have so many tokens, text included."""
        return Shape.of(
            self.family.load_transformer(),
            self.family.kept_values(self.forward),
            tokens=tokens,
            batch=self.plan.batch_size,
            trained=self.adapter.weights.numel(),
        )

    def _largest_shape(self) -> Shape:
        text = self.cache.features.tokens.shape[1]
        return self._shape(text + max(rows * columns for rows, columns in {item.shape for item in self.cache.items}))

    def _memory_plan(self) -> MemoryPlan:
        """For the largest image of the run."""
        shape = self._largest_shape()
        if self._recomputed is not None:
            summary = f"{self._recomputed} of {shape.blocks} blocks are recomputed, as asked."
            return MemoryPlan(self._recomputed, summary, shape.blocks)
        self._free = self._reserve(*asked_for(shape)) + shape.weights
        return plan_memory(shape, self._free)

    def _correct_plan(self, step: StepInput, taken: int) -> None:
        """Plans again, once, by what a step really took beyond what was there before it."""
        factor = self._shape(step.tokens).measured_against(taken, self.memory.recomputed)
        corrected = plan_memory(self._largest_shape().scaled(factor), self._free)
        if corrected.recomputed != self.memory.recomputed:
            self.memory = corrected
            self._log(f"The first step took {factor:.0%} of the memory that was predicted. {corrected.summary}")
            self._adapt()

    def figures(self) -> dict[str, Any]:
        """Gives what the config file says of the order of work; of graphs only those that there really are."""
        told: dict[str, Any] = {"order_of_work": self.forward.value}
        if self.compiler is not None:
            told["compiled_graphs"] = self.compiler.graphs
        return told | ({"why_not_compiled": self.why_not_compiled} if self.why_not_compiled else {})

    def take(self, state: TrainingState) -> Outcome:
        """Takes the step after `state.step`: moves adapter, optimiser and average; the caller keeps the books."""
        plan, step = self.plan, state.step
        loss = self._differentiated(step)
        gradient = self.adapter.weights.grad
        assert gradient is not None
        size = gradient.norm()
        outcome = Outcome(torch.stack([loss, size]))
        taken = outcome.figures.isfinite().all()
        if self._skips_on_device:
            self.optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]
        if self._skips_on_device or outcome.taken:
            gradient.mul_(torch.where(size > plan.largest_gradient, plan.largest_gradient / size, 1.0))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(plan, step)
            self.optimizer.step()
            share = newest_share(plan, step)
            state.average.lerp_(self.adapter.weights.data, torch.where(taken, share, 0.0))
        gradient.zero_()
        if step + 1 < plan.steps:
            self._ahead = self.inputs.at(step + 1)
        return outcome

    def _differentiated(self, step: int) -> torch.Tensor:
        """The loss, its gradient in the adapter's buffer; once again with less asked for if that fails."""
        compiled = 0 if self.compiler is None else self.compiler.graphs
        try:
            loss = self._measured(step)
        except Exception as error:  # what fails in a compiler may be anything
            if is_out_of_memory(error):
                if self._recomputed is not None or not self.memory.can_step_down:
                    raise OutOfMemory(
                        "A training step does not fit into memory, even with every block recomputed.",
                        remedy="Free memory on the device, ask for a lower rank, or train smaller pictures: none is "
                        "enlarged, so scale them down, or name a smaller resolution where the endpoint takes one.",
                    ) from error
                failure = ""
            elif self.forward is Forward.COMPILED:
                failure = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
            else:
                raise
        else:
            if self.compiler is not None and self.compiler.graphs > compiled:
                self._log(f"The blocks are compiled; graphs so far, each for all sizes: {self.compiler.graphs}.")
            return loss
        # Outside the handler: its traceback holds on to the tensors that did not fit.
        assert self.adapter.weights.grad is not None
        self.adapter.weights.grad.zero_()
        if failure:
            self._leave_compiling(failure)
        else:
            self.memory, self._meter = self.memory.stepped_down(), None
            self._log(self.memory.summary)
        self._adapt()
        if self.family.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._differentiated(step)

    def _leave_compiling(self, reason: str) -> None:
        """Goes on in our own order of work, which is faster and smaller than uncompiled blocks of diffusers."""
        self._adapted.close()
        self._network = self.compiler = None
        self.forward = self.family.forward_for(Forward.OWN)
        self.why_not_compiled = f"Nothing is compiled: it failed ({reason})."
        self.memory = self._memory_plan()
        self._log(f"{self.why_not_compiled} The same step is taken again. {self.memory.summary}")

    def _measured(self, step: int) -> torch.Tensor:
        """The loss as `differentiate` computes it; of the first step with whatever is compiled, its memory too."""
        first, self._first = self._first, False
        if first or self._meter is None or self._recomputed is not None:
            return self.differentiate(step)
        meter, self._meter = self._meter, None
        input = self._input(step)
        meter.begin()
        loss = self.differentiate(step)
        self._correct_plan(input, meter.taken())
        return loss

    def _input(self, step: int) -> StepInput:
        if self._ahead is None or self._ahead.step != step:
            self._ahead = self.inputs.at(step)
        return self._ahead

    def differentiate(self, step: int) -> torch.Tensor:
        """Computes the loss of a step; its gradient is added to the adapter's."""
        loss = self.loss(self._input(step))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def loss(self, input: StepInput) -> torch.Tensor:
        """Computes the mean squared error of the predicted velocity, weighted by token where an image has a mask."""
        # Our own order of work knows by itself which product is rounded.
        autocast = self.plan.autocast and self.forward is not Forward.OWN
        with torch.autocast(self.family.device.type, torch.bfloat16) if autocast else nullcontext():
            predicted = self.family.predict_velocity(
                self._network, input.noisy, input.sigma, input.features, self.plan.guidance
            )
        error = (predicted.float() - input.target).square().mean(-1)  # (batch, tokens)
        return (error if input.weights is None else error * input.weights).mean()


def _chosen_forward(device: str, steps: int) -> tuple[Forward, str]:
    """The order of work for a run of so many steps, and on a GPU why nothing is compiled; empty where it is to be."""
    if device != "cuda":
        return Forward.OWN, ""
    if steps < _STEPS_WORTH_COMPILING:
        return Forward.OWN, f"Nothing is compiled: that pays from {_STEPS_WORTH_COMPILING} steps."
    if lacking := lacking_for_compiling():
        return Forward.OWN, f"Nothing is compiled: {lacking}."
    return Forward.COMPILED, ""
