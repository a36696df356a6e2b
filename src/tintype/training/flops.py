"""How much arithmetic a run's steps are, and how near the chip came to its limit: speed means little without it.

Counted are the products of a step that recomputes nothing: work that is done twice to save memory earns nothing.
Attention counts as its plain products. tests/training/test_flops.py holds the formula to what torch counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tintype.models.attention import kernel_of
from tintype.models.family import Family
from tintype.training.cache import Cache
from tintype.training.plan import Plan

# Dense bf16 TFLOP/s with fp32 sums, from the makers' data sheets, by the name CUDA gives a chip without what
# _BESIDE_THE_NAME takes out.
PEAKS = {
    "B200": 2250.0, "GH200": 989.0, "H200": 989.0, "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0,
    "A100": 312.0, "A100 PCIe": 312.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0, "A10": 125.0,
    "RTX 6000 Ada": 364.0, "RTX A6000": 154.8, "RTX 5090": 209.5, "RTX 4090": 165.2, "RTX 3090": 71.0,
    "RTX 4080": 97.5, "RTX 4070": 58.3,
}  # fmt: skip
_BESIDE_THE_NAME = re.compile(r"NVIDIA|GeForce|Generation|SXM\d*|HBM\w*|\d+GB?", re.IGNORECASE)


@dataclass(frozen=True)
class StepCost:
    """Of one step, on average over an epoch. `peak` is the chip's, in operations a second; None where not known."""

    operations: float
    kernel: str
    padding: float  # share of all tokens that are padding
    chip: str
    peak: float | None

    def figures(self, steps_per_second: float) -> dict[str, Any]:
        """Gives the figures of the config file."""
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

    def describe(self, steps_per_second: float) -> str:
        """Gives the sentence of the log."""
        achieved = self.operations * steps_per_second
        share = f"{achieved / self.peak:.0%} of the chip's peak" if self.peak else "the chip's peak is not known"
        return f"{_readable(self.operations)} a step, {_readable(achieved)}/s ({share}); attention by {self.kernel}."


def step_cost_of(family: Family, cache: Cache, plan: Plan, rank: int) -> StepCost:
    """Computes what a step costs at the sizes of image there are, weighed by how often they come."""
    text = cache.features.tokens.shape[1]
    batches: Counter[int] = Counter()  # by the tokens of their images
    for shape, count in Counter(item.shape for item in cache.items).items():
        batches[math.prod(shape)] += math.ceil(count / plan.batch_size)
    operations = {image: operations_of_step(family, image, text, plan.batch_size, rank) for image in batches}
    tokens = sum(math.prod(item.shape) + text for item in cache.items)
    padded = sum(text - cache.text_lengths[item.caption] for item in cache.items) if cache.text_lengths else 0
    config = family.load_transformer().config
    heads, width = config.num_attention_heads, config.attention_head_dim
    chip, peak = _chip(family.device)
    return StepCost(
        sum(operations[image] * count for image, count in batches.items()) / sum(batches.values()),
        kernel_of(family.device, family.dtype, (plan.batch_size, heads, max(batches) + text, width), plan.autocast),
        padded / tokens,
        chip,
        peak,
    )


def operations_of_step(family: Family, image: int, text: int, batch: int, rank: int) -> float:
    """Computes the floating point operations of a step on `batch` images of so many image and text tokens.

    A frozen layer is one product forwards and one backwards to its input. Beside it the factors of an adapter are two
    products forwards, four for their gradients, and one backwards, which a merged weight has done already.
    """
    transformer, targets, merged = family.load_transformer(), set(family.adapter_targets), family.dtype == torch.float32
    products = 0  # of one number by another
    for name, layer in transformer.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        forward, backward = (batch * tokens for tokens in family.layer_tokens(name, image, text))
        into, out = layer.in_features, layer.out_features
        products += into * out * (forward + backward)
        if name in targets:
            products += 2 * rank * (into + out) * forward
            beside = (into + out) * forward + into * backward
            products += rank * (into * out * (1 + (backward > 0)) if merged else beside)
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    # Two products forwards and four backwards; only the image's tokens ask in the last block.
    queries = (len(family.blocks_of(transformer)) - 1) * (image + text) + image
    return float(2 * (products + 6 * batch * width * queries * (image + text)))


def operations_of_prediction(family: Family, image: int, text: int) -> float:
    """Computes the floating point operations of one pass through a network for so many image and text tokens."""
    transformer = family.load_transformer()
    layers = ((name, layer) for name, layer in transformer.named_modules() if isinstance(layer, nn.Linear))
    products = sum(
        layer.in_features * layer.out_features * family.layer_tokens(name, image, text)[0] for name, layer in layers
    )
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    return float(2 * (products + 2 * len(family.blocks_of(transformer)) * width * (image + text) ** 2))


def _chip(device: torch.device) -> tuple[str, float | None]:
    """Name and peak of what computes. What a CPU could do at best depends on clocks that nobody promises."""
    if device.type != "cuda":
        return "CPU", None
    name = torch.cuda.get_device_name(device)
    return name, peak_of(name)


def peak_of(chip: str) -> float | None:
    """Gives a chip's operations a second by the whole of its name; None for one that is not known.

    A part of a name would be another chip: L40 is no L4, A10G no A10, and a laptop's RTX 4090 or a slice of an H100
    is less than what it is called after.
    """
    words = [word for word in re.split(r"[\s-]+", chip) if not _BESIDE_THE_NAME.fullmatch(word)]
    named = " ".join(words).casefold()
    return next((peak * 1e12 for name, peak in PEAKS.items() if name.casefold() == named), None)


def _readable(operations: float) -> str:
    for size, unit in ((1e12, "TFLOP"), (1e9, "GFLOP")):
        if operations >= size:
            return f"{operations / size:.1f} {unit}"
    return f"{operations / 1e6:.1f} MFLOP"
