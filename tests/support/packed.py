"""Layers with a packed weight, as bitsandbytes' four-bit ones: a column of bytes that only the layer itself can read.

Packed are the very bits of the weight, so that whatever is computed with it is comparable.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tintype.models.quantised import prepare, rounded_for


class Params4bit(nn.Parameter):
    """Named as bitsandbytes names it, because diffusers knows it by its name; `quant_state` holds shape and scales."""

    quant_state: Any


class PackedLinear(nn.Linear):
    """Multiplies as the layer that it was made from."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        weight = layer.weight.detach()
        self.number = weight.dtype
        packed = Params4bit(weight.contiguous().view(torch.uint8).reshape(-1, 1), requires_grad=False)
        packed.quant_state = SimpleNamespace(shape=weight.shape, absmax=torch.zeros(weight.numel() // 64))
        self.weight, self.bias = packed, layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.reshape(self.out_features, -1).view(self.number)
        return F.linear(x, weight, self.bias)


def quantise(network: nn.Module, precision: str) -> None:
    """Rounds the layers within a network's blocks to fp8 or nf4, as reading it so does."""
    tensors = dict(network.state_dict())
    prepare(network, precision, next(network.parameters()).dtype, "cpu")
    network.load_state_dict(dict(rounded_for(network, tensors.items())), assign=True)


def pack(network: nn.Module) -> None:
    """Packs every linear layer of a network."""
    for name, layer in list(network.named_modules()):
        if type(layer) is nn.Linear:
            network.set_submodule(name, PackedLinear(layer))
