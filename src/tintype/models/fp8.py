"""A frozen network's matrices in eight bits: half the memory of bf16, for cards that the published numbers do not fit.

Each row of a matrix is scaled so that its largest number is fp8 e4m3's largest, 448, and rounded; three bits of the
mantissa are left, so all but a row's smallest numbers are off by a sixteenth at most. What is computed is as before: a
layer's numbers are made whole where they are multiplied, and let go of. Only layers within blocks are rounded, nearly
all of a network; its first and last ones stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_LARGEST = 448.0  # of e4m3, as torch.finfo says


class Fp8Linear(nn.Linear):
    """Multiplies as the layer it was made from, but for rounding. It is made without numbers.

    weight: (out, in), the bits of e4m3 numbers; scale: (out, 1), fp32. The bits are declared as bytes, because whoever
    puts an adapter beside a layer makes it in the layer's floating precision.
    """

    scale: torch.Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        bits = torch.empty(self.weight.shape, dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(bits, requires_grad=False)
        self.register_buffer("scale", torch.empty(layer.out_features, 1, device="meta"))
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps x, (…, in), to (…, out), in the precision of x."""
        product: torch.Tensor = _Product.apply(x, self.weight, self.scale)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """F.linear of it that keeps eight bits for the backward pass, where autograd would keep the whole matrix."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(bits, scale)
        return F.linear(x, whole(bits, scale, x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        bits, scale = ctx.saved_tensors
        return gradient @ whole(bits, scale, gradient.dtype), None, None


def whole(bits: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Makes a matrix, (out, in), of its bits and its rows' scales."""
    return bits.view(torch.float8_e4m3fn).to(dtype).mul_(scale.to(dtype))


def rounded(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounds a matrix, (out, in), to bits and scales as `whole` takes them."""
    largest = weight.abs().amax(dim=1, keepdim=True).float()
    scale = torch.where(largest > 0, largest / _LARGEST, 1.0)
    return (weight.float() / scale).to(torch.float8_e4m3fn).view(torch.uint8), scale


def prepare(network: nn.Module) -> None:
    """Puts layers for eight bits, without numbers, in the place of all linear layers within the network's blocks."""
    blocks = [name for name, part in network.named_children() if isinstance(part, nn.ModuleList)]
    for name, layer in list(network.named_modules()):
        if type(layer) is nn.Linear and name.partition(".")[0] in blocks:
            network.set_submodule(name, Fp8Linear(layer))


def rounded_for(network: nn.Module, tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Rounds those of a network's tensors that its eight-bit layers take, one after another; others stay."""
    eight_bits = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, Fp8Linear)}
    for name, tensor in tensors:
        if name in eight_bits:
            bits, scale = rounded(tensor)
            yield name, bits
            yield f"{name.removesuffix('weight')}scale", scale
        else:
            yield name, tensor
