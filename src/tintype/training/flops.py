"""How much arithmetic a run's steps are, and how near the chip came to its limit: speed means little without it.

Operations are counted on the meta device, on the very step that training takes with nothing recomputed: work that is
done twice to save memory, or on padding, earns nothing. Attention counts as its plain products.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tintype.lora.adapter import Adapter
from tintype.models.attention import kernel_of
from tintype.models.family import Family
from tintype.models.weightless import Weightless, weightless_like
from tintype.training.cache import Cache, Item
from tintype.training.plan import Plan
from tintype.training.step import Stepper

# Dense bf16 TFLOP/s with fp32 sums, by a part of the name CUDA gives a chip; from the makers' data sheets.
PEAKS = (
    ("B200", 2250.0), ("GH200", 989.0), ("H200", 989.0), ("H100 PCIe", 756.0), ("H100 NVL", 835.0), ("H100", 989.0),
    ("A100", 312.0), ("L40S", 362.0), ("RTX 6000 Ada", 364.0), ("RTX 5090", 209.5), ("RTX 4090", 165.2),
    ("RTX 3090", 71.0), ("A6000", 154.8), ("A10", 125.0), ("L4", 121.0),
)  # fmt: skip


@dataclass(frozen=True)
class StepCost:
    """Of one step, on average over an epoch. `peak` is the chip's, in operations a second; None where not known."""

    operations: float
    kernel: str
    padding: float  # share of all tokens that are padding
    chip: str
    peak: float | None

    def figures(self, steps_per_second: float) -> dict[str, Any]:
        """For the config file and the log."""
        achieved = self.operations * steps_per_second
        return {
            "flop_per_step": round(self.operations),
            "achieved_flop_per_second": round(achieved),
            "chip": self.chip,
            "peak_flop_per_second": self.peak or "not known",
            "share_of_peak": round(achieved / self.peak, 4) if self.peak else "not known",
            "attention_kernel": self.kernel,
            "padding_share": round(self.padding, 4),
        }

    def said(self, steps_per_second: float) -> str:
        achieved = self.operations * steps_per_second
        share = f"{achieved / self.peak:.0%} of the chip's peak" if self.peak else "the chip's peak is not known"
        return (
            f"{_readable(self.operations)} a step, {_readable(achieved)}/s ({share}); attention by {self.kernel}; "
            f"{self.padding:.0%} of the tokens are padding."
        )


def step_cost_of(family: Family, adapter: Adapter, cache: Cache, plan: Plan) -> StepCost:
    """Counts one step for the sizes of picture there are, and weighs them by how often they come."""
    counted = weightless_like(family.load_transformer())
    text = cache.features.tokens.shape[1]
    batches = _batches_of_an_epoch(cache, plan)

    def count(tokens: int) -> float:
        return operations_of_step(counted, tokens, text, plan.batch_size, adapter.rank)

    by_size = _at_all_sizes(count, sorted(batches))
    operations = sum(by_size[size] * times for size, times in batches.items())
    tokens = [math.prod(item.shape) + text for item in cache.items]
    padded = sum(text - cache.text_lengths[item.caption] for item in cache.items) if cache.text_lengths else 0
    chip, peak = _chip(family.device)
    return StepCost(
        operations / sum(batches.values()),
        kernel_of(family.device, family.dtype, max(tokens), plan.autocast),
        padded / sum(tokens),
        chip,
        peak,
    )


def operations_of_step(family: Weightless, tokens: int, text: int, batch: int, rank: int) -> float:
    """Floating point operations of one training step of a base on the meta device, at `tokens` of each picture."""
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=rank, seed=0, device=family.device, shared=family.fused_targets
    )
    item = Item("counted", torch.zeros(tokens, transformer.config.in_channels), tokens, 1, 0, None)
    features = family.random_features(1, text)
    plan = Plan(steps=1, learning_rate=1e-4, batch_size=batch)
    stepper = Stepper(family, adapter, Cache([item], [""], features, "none"), plan, recomputed=0)
    counter = FlopCounterMode(display=False)
    with stepper.prepared(), counter:
        stepper.differentiate(0)
    return float(counter.get_total_flops())


def _at_all_sizes(count: Callable[[int], float], sizes: list[int]) -> dict[int, float]:
    """A step is a polynomial of second degree in a picture's tokens, so that three counts tell all of them."""
    if len(sizes) <= 3:
        return {size: count(size) for size in sizes}
    known = np.array([sizes[0], sizes[len(sizes) // 2], sizes[-1]], dtype=np.float64)
    curve = np.polynomial.Polynomial.fit(known, [count(int(size)) for size in known], deg=2)
    return {size: float(curve(size)) for size in sizes}


def _batches_of_an_epoch(cache: Cache, plan: Plan) -> dict[int, int]:
    """How many batches of pictures of so many tokens there are."""
    batches = Counter[int]()
    for shape, count in Counter(item.shape for item in cache.items).items():
        batches[math.prod(shape)] += math.ceil(count / plan.batch_size)
    return dict(batches)


def _chip(device: torch.device) -> tuple[str, float | None]:
    """Name and peak of what computes. What a CPU could do at best depends on clocks that nobody promises."""
    if device.type != "cuda":
        return "CPU", None
    name = torch.cuda.get_device_name(device)
    return name, next((peak * 1e12 for part, peak in PEAKS if part in name), None)


def _readable(operations: float) -> str:
    for size, unit in ((1e12, "TFLOP"), (1e9, "GFLOP")):
        if operations >= size:
            return f"{operations / size:.1f} {unit}"
    return f"{operations / 1e6:.1f} MFLOP"
