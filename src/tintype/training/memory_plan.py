"""How much memory a step will take, and what to give up when that is too much: decided before the first step.

A block keeps what its backward pass reads. Running a block again instead costs one more forward pass of it and keeps
only its input, so as many blocks as needed, and no more, are recomputed. The weights are the rest: where even full
recomputation does not fit, the base would have to be quantised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from tintype.errors import OutOfMemoryAtLoad
from tintype.models.placement import HEADROOM, WORKSPACE

_BELIEVED = (0.25, 4.0)  # measured, as a share of what was predicted; beyond, something else was measured
_SMALLER = "A quantised base takes less: set TINTYPE_PRECISION to fp8 or nf4, or name a folder of one (`tintype plan`)."


@dataclass(frozen=True)
class Shape:
    """What decides the memory of a step. `tokens` counts text and image of one image.

    `kept`: for each block, how many values of the stream's width its forward pass keeps per token for the backward.
    """

    width: int
    kept: tuple[float, ...]
    tokens: int
    batch: int
    bytes_per_value: int
    weights: int  # bytes of the frozen base, as it is stored
    trained: int  # parameters of the adapter

    @classmethod
    def of(cls, transformer: Any, kept: tuple[float, ...], *, tokens: int, batch: int, trained: int) -> Shape:
        """Reads the shape off a transformer, which may be on any device, meta included."""
        config, weights = transformer.config, list(transformer.parameters())
        # Those of eight bits and less stand for others.
        value = next(weight for weight in weights if weight.is_floating_point() and weight.itemsize > 1)
        return cls(
            width=config.num_attention_heads * config.attention_head_dim,
            kept=kept,
            tokens=tokens,
            batch=batch,
            bytes_per_value=value.element_size(),
            weights=sum(map(stored_bytes, weights)),
            trained=trained,
        )

    @property
    def blocks(self) -> int:
        return len(self.kept)

    @property
    def base_bytes(self) -> int:
        """Frozen weights, and the adapter with gradient, two moments, average, all in fp32."""
        return self.weights + 5 * 4 * self.trained

    @property
    def stream_bytes(self) -> int:
        """What goes from one block to the next."""
        return self.batch * self.tokens * self.width * self.bytes_per_value

    def kept_bytes(self, recomputed: int = 0) -> int:
        """Predicts what the backward pass needs from the forward pass, at its fullest."""
        kept = sum(self.kept[recomputed:])
        if recomputed:  # one recomputed block is whole again while its backward runs
            kept += max(self.kept[:recomputed])
        return int((kept + recomputed) * self.stream_bytes)

    def measured_against(self, taken: int, recomputed: int) -> float:
        """Compares what the blocks of a step of this shape took with the prediction; inputs of blocks are certain."""
        inputs = recomputed * self.stream_bytes
        low, high = _BELIEVED
        return min(high, max(low, (taken - inputs) / (self.kept_bytes(recomputed) - inputs)))

    def scaled(self, factor: float) -> Shape:
        """Returns one whose blocks keep so much more."""
        return replace(self, kept=tuple(values * factor for values in self.kept))

    def total_bytes(self, recomputed: int = 0) -> int:
        """Predicts what a step takes in all."""
        return int(self.base_bytes * (1 + WORKSPACE)) + self.kept_bytes(recomputed)


@dataclass(frozen=True)
class MemoryPlan:
    """How many blocks are recomputed, the sentence that says why, and the bytes that a step then takes."""

    recomputed: int
    summary: str
    blocks: int
    needed: int = 0
    fits: bool = True

    @property
    def can_step_down(self) -> bool:
        return self.recomputed < self.blocks

    def stepped_down(self) -> MemoryPlan:
        """Plans for after an out-of-memory: from nothing to half of the blocks, from some to all."""
        more = self.blocks // 2 if self.recomputed == 0 else self.blocks
        more = max(more, min(self.blocks, self.recomputed + 1))
        summary = f"Out of memory; from here on {_share(more, self.blocks)} recomputed."
        return MemoryPlan(more, summary, self.blocks)


def asked_for(shape: Shape) -> tuple[int, int]:
    """Returns the bytes beside the weights that a step would like to have, recomputing nothing, and the fewest."""
    most, least = (math.ceil(shape.total_bytes(blocks) / HEADROOM) for blocks in (0, shape.blocks))
    return most - shape.weights, least - shape.weights


def plan_memory(shape: Shape, free: int) -> MemoryPlan:
    """Finds the fewest recomputed blocks with which a step fits into `free` bytes (weights included)."""
    room = int(free * HEADROOM)
    for recomputed in range(shape.blocks + 1):
        if (needed := shape.total_bytes(recomputed)) <= room:
            break
    summary = (
        f"Memory: {gib(shape.total_bytes())} for a step that recomputes nothing, {gib(free)} free; "
        f"{_share(recomputed, shape.blocks)} recomputed"
    )
    summary += f" ({gib(needed)})." if recomputed else "."
    if needed > room:
        summary += f" Even so it may not fit: {gib(needed)} predicted. {_SMALLER}"
    return MemoryPlan(recomputed, summary, shape.blocks, needed, fits=needed <= room)


class PeakMeter:
    """Measures the most memory that a GPU takes at once, beyond what it had taken before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0

    def begin(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)

    def taken(self) -> int:
        """Returns how many bytes more than at `begin` were taken at the fullest, work that is under way included."""
        return torch.cuda.max_memory_allocated(self._device) - self._before


def stored_bytes(tensor: Any) -> int:
    """Counts the bytes that a weight takes as it is stored, with the scales of a quantised one."""
    if hasattr(tensor, "__tensor_flatten__"):  # torchao: a tensor of tensors, which gives the size it stands for
        return sum(stored_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    count: int = tensor.numel() * tensor.element_size()
    state = getattr(tensor, "quant_state", None)  # bitsandbytes; scales may be quantised themselves
    while state is not None:
        count += stored_bytes(state.absmax)
        state = getattr(state, "state2", None)
    return count


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether memory ran out: CUDA has a class for it, the CPU's allocator says it in words."""
    kinds = (torch.OutOfMemoryError, MemoryError, OutOfMemoryAtLoad)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _share(recomputed: int, blocks: int) -> str:
    if recomputed == 0:
        return "nothing is"
    return "all blocks are" if recomputed == blocks else f"{recomputed} of {blocks} blocks are"


def gib(count: int) -> str:
    """Writes a size in memory for a person."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.0f} MiB"
