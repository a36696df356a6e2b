"""A frozen network's matrices in eight or four bits: a half or a quarter of bf16, for cards that it does not fit.

fp8 scales each row of a matrix so that its largest number is e4m3's largest, 448, and rounds: three bits of the
mantissa are left, so all but a row's smallest numbers are off by a sixteenth at most. nf4 scales each 64 numbers so
that the largest is 1 and takes the nearest of the 16 levels of NormalFloat, which numbers of a normal distribution use
equally often (Dettmers et al. 2023, arXiv 2305.14314, appendix E). What is computed is as before: a layer's matrix is
made whole where it is multiplied, and let go of. Only layers within blocks are rounded, nearly all of a network; its
first and last ones stay as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_LARGEST = 448.0  # of e4m3, as torch.finfo says
_TOGETHER = 64  # numbers that share a scale in nf4
_AT_A_TIME = 2**22  # numbers that are rounded together
# As published, to seven digits: computed, they would depend on the machine's last bits.
_LEVELS = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip


class QuantisedLinear(nn.Linear):
    """Multiplies as the layer it was made from, but for rounding. It is made without numbers.

    codes: bytes; in fp8 (out, in), in nf4 (out · in / 64, 32), two numbers a byte. scale: (rows of codes, 1), in the
    network's precision. levels: (256, 2), what each byte stands for in nf4; None in fp8.
    """

    codes: nn.Parameter
    scale: nn.Parameter
    levels: torch.Tensor | None

    def __init__(self, layer: nn.Linear, levels: torch.Tensor | None, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        numbers = layer.weight.numel()
        shape = layer.weight.shape if levels is None else (numbers // _TOGETHER, _TOGETHER // 2)
        codes, scale = torch.empty(shape, dtype=torch.uint8, device="meta"), torch.empty(shape[0], 1, device="meta")
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.scale = nn.Parameter(scale.to(dtype), requires_grad=False)
        self.register_buffer("levels", levels, persistent=False)
        self.bias = layer.bias

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """Makes the matrix whole, (out, in): whoever puts an adapter beside the layer asks for its shape and kind."""
        return whole(self.codes, self.scale, self.levels, self.out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps x, (…, in), to (…, out), in the precision of x."""
        product: torch.Tensor = _Product.apply(x, self.codes, self.scale, self.levels, self.out_features)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """F.linear of it that keeps what is packed for the backward pass, where autograd would keep the whole matrix."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, levels: torch.Tensor | None, outputs: int
    ) -> torch.Tensor:
        ctx.save_for_backward(codes, scale, levels)
        ctx.outputs = outputs
        return F.linear(x, whole(codes, scale, levels, outputs).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        codes, scale, levels = ctx.saved_tensors
        return gradient @ whole(codes, scale, levels, ctx.outputs).to(gradient.dtype), None, None, None, None


def whole(codes: torch.Tensor, scale: torch.Tensor, levels: torch.Tensor | None, outputs: int) -> torch.Tensor:
    """Makes a matrix, (outputs, in), of what QuantisedLinear holds."""
    if levels is None:
        numbers = codes.view(torch.float8_e4m3fn).to(scale.dtype)
    else:
        numbers = F.embedding(codes.int(), levels).flatten(1)
    return (numbers * scale).view(outputs, -1)


def rounded(weight: torch.Tensor, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounds a matrix, (out, in), to codes and scales as `whole` takes them. In nf4 64 has to divide out · in.

    A few rows at a time: in the precision that rounding takes, a large matrix would need six times its own memory.
    """
    rows = weight if precision == "fp8" else weight.reshape(-1, _TOGETHER)
    width = rows.shape[1] if precision == "fp8" else rows.shape[1] // 2
    codes = torch.empty(rows.shape[0], width, dtype=torch.uint8, device=weight.device)
    scale = torch.empty(rows.shape[0], 1, dtype=weight.dtype, device=weight.device)
    step = max(1, _AT_A_TIME // rows.shape[1])
    for first in range(0, rows.shape[0], step):
        codes[first : first + step], scale[first : first + step] = _rounded(rows[first : first + step], precision)
    return codes, scale


def _rounded(rows: torch.Tensor, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    largest = rows.abs().amax(dim=1, keepdim=True).float()
    scale = torch.where(largest > 0, largest / (_LARGEST if precision == "fp8" else 1.0), 1.0).to(rows.dtype)
    numbers = rows.float() / scale.float()
    if precision == "fp8":
        return numbers.to(torch.float8_e4m3fn).view(torch.uint8), scale
    levels = torch.tensor(_LEVELS, device=rows.device)
    nearest = torch.bucketize(numbers, (levels[1:] + levels[:-1]) / 2, out_int32=True).to(torch.uint8)
    return nearest[:, 0::2] << 4 | nearest[:, 1::2], scale


def byte_levels(dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Gives the two numbers that each byte of nf4 stands for, (256, 2), the one in its upper half first."""
    levels = torch.tensor(_LEVELS, dtype=dtype, device=device)
    return torch.stack([levels.repeat_interleave(16), levels.repeat(16)], dim=1)


def prepare(network: nn.Module, precision: str, dtype: torch.dtype, device: torch.device | str = "meta") -> None:
    """Puts quantised layers, without numbers, in the place of all linear layers within the network's blocks.

    `precision` is fp8 or nf4, `dtype` and `device` are those that the network will have.
    """
    levels = byte_levels(dtype, device) if precision == "nf4" else None
    blocks = [name for name, part in network.named_children() if isinstance(part, nn.ModuleList)]
    for name, layer in list(network.named_modules()):
        if type(layer) is not nn.Linear or name.partition(".")[0] not in blocks:
            continue
        if levels is None or layer.weight.numel() % _TOGETHER == 0:
            network.set_submodule(name, QuantisedLinear(layer, levels, dtype))


def rounded_for(network: nn.Module, tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Rounds those of a network's tensors that its quantised layers take, one after another; others stay."""
    layers = {f"{name}.weight": layer for name, layer in network.named_modules() if isinstance(layer, QuantisedLinear)}
    for name, tensor in tensors:
        if name in layers:
            codes, scale = rounded(tensor, "fp8" if layers[name].levels is None else "nf4")
            _return_freed_memory()
            stem = name.removesuffix("weight")
            yield f"{stem}codes", codes
            yield f"{stem}scale", scale
        else:
            yield name, tensor


def _return_freed_memory() -> None:
    """Returns to the system what was let go of: glibc would keep it, twice the packed size for a whole network."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
