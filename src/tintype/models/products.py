"""Matrix products with trained side paths, in as few operations as they take.

Around a small model most of a step's time is not arithmetic but the number of operations, and what arithmetic there is
goes twice as fast in oneDNN as in the library that torch picks for fp32 on some CPUs. So layers that read the same
input are one product here, the side path is folded into the weight where that is exact enough (fp32), and gradients of
the factors are added straight into the adapter's flat buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tintype.lora.adapter import Adapter

# Measured on an AMD EPYC (Zen 5), one thread, 448 x 128 by 128 x 512: 212 GFLOP/s against 96 of the default.
_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Multiplies x (rows, in) by weight (out, in), as F.linear; either may be a transposed view. Not differentiable."""
    if _ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and _dense(weight) and _dense(x):
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))
    return F.linear(x, weight, bias)


def has_matrix(layer: nn.Module) -> bool:
    """Tells whether a layer is a plain product by its weight, not one of a quantised or otherwise wrapped weight."""
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter:
        return False
    return layer.weight.is_floating_point() and layer.weight.itemsize > 1  # numbers of eight bits have a scale besides


def _dense(x: torch.Tensor) -> bool:
    """A slice of a wider matrix would fall to oneDNN's reference code, a hundred times slower."""
    return x.is_contiguous() or x.t().is_contiguous()


@dataclass(frozen=True)
class Part:
    """One frozen layer and the factors beside it: down (rank, in), up (out, rank)."""

    layer: nn.Linear
    down: nn.Parameter
    up: nn.Parameter


class AdaptedProduct:
    """Several layers that read the same input, as one: (…, in) to (…, all their outputs one after another).

    With `merged`, weight + scale · up · down is made when needed and takes the place of both products: for a batch of
    tokens that costs next to nothing, and keeping it would cost as much memory as the base. Without, the side path
    stays beside its layer, as it must where the base is rounded to bf16. `precision` is that of the products; what goes
    in and comes out keeps its own.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        trained: nn.Parameter,
        scale: float,
        *,
        merged: bool,
        precision: torch.dtype | None = None,
    ) -> None:
        self.parts = parts
        self.scale = scale
        self._trained = trained
        self.widths = [part.layer.out_features for part in parts]
        first = parts[0].layer
        self._fold = merged
        self.precision = precision or first.weight.dtype
        assert not merged or self.precision == first.weight.dtype
        # No copies where it is their own precision.
        self._weights = [part.layer.weight.detach().to(self.precision) for part in parts]
        given = [part.layer.bias for part in parts]
        self._biases = [None if bias is None else bias.detach().to(self.precision) for bias in given]
        biases = [bias for bias in self._biases if bias is not None]
        assert len(biases) in (0, len(parts)), "layers of one product have biases all, or none"
        self._bias = torch.cat(biases) if len(biases) > 1 else next(iter(biases), None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Adapted.apply(self._trained, self, None, x)  # type: ignore[no-untyped-call]
        return result

    def recomputing(self, make: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Multiplies make(*inputs). All inputs are differentiated.

        Only they are kept for the backward pass, where `make` runs again: meant for activations, which are as wide as a
        block gets and cost little.
        """
        result: torch.Tensor = _Adapted.apply(self._trained, self, make, *inputs)  # type: ignore[no-untyped-call]
        return result

    def _merged(self) -> torch.Tensor:
        """(all outputs, in)"""
        first = self._weights[0]
        merged = first.new_empty(sum(self.widths), first.shape[1])
        for part, weight, into in zip(self.parts, self._weights, merged.split_with_sizes(self.widths), strict=True):
            torch.addmm(weight, part.up.detach(), part.down.detach(), alpha=self.scale, out=into)
        return merged

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiplies x: (rows, in)."""
        if self._fold:
            return product(x, self._merged(), self._bias)
        outputs = []
        for part, weight, bias in zip(self.parts, self._weights, self._biases, strict=True):
            side = product(product(x, part.down.to(x.dtype)), part.up.to(x.dtype))
            outputs.append(product(x, weight, bias).add_(side, alpha=self.scale))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    def backward(self, gradient: torch.Tensor, x: torch.Tensor, *, into_x: bool) -> torch.Tensor | None:
        """Adds to the factors' gradients; returns x's where it is needed. gradient: (rows, out), x: (rows, in)."""
        back = product(gradient, self._merged().t()) if into_x and self._fold else None
        pieces = gradient.split_with_sizes(self.widths, -1)
        for part, weight, piece in zip(self.parts, self._weights, pieces, strict=True):
            down, up = part.down, part.up
            assert down.grad is not None
            assert up.grad is not None
            narrow = product(piece, up.to(x.dtype).t())  # (rows, rank)
            _add_product(down.grad, narrow, x, self.scale)
            _add_product(up.grad, piece, product(x, down.to(x.dtype)), self.scale)
            if into_x and not self._fold:
                whole = product(piece, weight.t())
                whole.add_(product(narrow, down.to(x.dtype).t()), alpha=self.scale)
                back = whole if back is None else back.add_(whole)
        return back


class OwnForward:
    """A transformer and an adapter in our own order of work; a base model's subclass is called for its prediction.

    The first `recomputed` blocks keep only their input and run again in the backward pass. `rounded` makes the
    products of an fp32 base in bf16; all between them stays fp32.
    """

    def __init__(self, transformer: Any, adapter: Adapter, *, recomputed: int = 0, rounded: bool = False) -> None:
        self.transformer = transformer
        self.recomputed = recomputed
        self._adapter = adapter
        # Folding the factors into a bf16 weight would round most of what they learned away.
        self._merged = transformer.dtype == torch.float32 and not rounded
        self._precision = torch.bfloat16 if rounded else transformer.dtype

    def _product(self, block: nn.Module, at: str, *names: str) -> AdaptedProduct:
        """The layers of a block, which has the name `at`, that read the same input."""
        parts = [
            Part(cast(nn.Linear, block.get_submodule(name)), *self._adapter.layers[f"{at}.{name}"]) for name in names
        ]
        assert all(has_matrix(part.layer) for part in parts), f"{at} is quantised"
        scale = self._adapter.alpha / self._adapter.rank
        return AdaptedProduct(parts, self._adapter.weights, scale, merged=self._merged, precision=self._precision)

    def _run(self, number: int, block: Callable[..., Any], *inputs: Any) -> Any:
        if number < self.recomputed and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)


def _add_product(into: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """into += scale · leftᵀ right; left: (rows, a), right: (rows, b), into: (a, b) in fp32."""
    if left.dtype == into.dtype:
        into.addmm_(left.t(), right, alpha=scale)
    else:
        into.add_(left.t() @ right, alpha=scale)


class _Adapted(torch.autograd.Function):
    """The flat buffer is an input only so that autograd knows there is something to train."""

    @staticmethod
    def forward(
        ctx: Any,
        trained: torch.Tensor,
        layers: AdaptedProduct,
        make: Callable[..., torch.Tensor] | None,
        *inputs: torch.Tensor,
    ) -> torch.Tensor:
        x = make(*inputs) if make else inputs[0]
        flat = x.reshape(-1, x.shape[-1]).to(layers.precision)
        ctx.layers, ctx.make = layers, make
        ctx.save_for_backward(*(inputs if make else (flat,)))
        return layers.forward(flat).view(*x.shape[:-1], -1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layers, gradient, kept = ctx.layers, gradients[0], ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1]).to(layers.precision)
        if ctx.make is None:
            back = layers.backward(flat, kept[0], into_x=ctx.needs_input_grad[3])
            return None, None, None, None if back is None else back.view(*gradient.shape[:-1], -1).to(gradient.dtype)
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in kept]
            x = ctx.make(*inputs)
        back = layers.backward(flat, x.detach().reshape(-1, x.shape[-1]).to(layers.precision), into_x=True)
        return None, None, None, *torch.autograd.grad(x, inputs, back.view(x.shape).to(x.dtype))
