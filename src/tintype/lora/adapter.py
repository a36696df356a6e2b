"""The trained part: two thin matrices beside each linear layer, all of them views of one flat buffer.

One buffer means that the optimiser, clipping, averaging and checkpoints are one operation each instead of hundreds;
on a small model that is most of the cost around the step. The arithmetic is PEFT's (Hu et al. 2021, arXiv 2106.09685):
W x + (alpha / rank) · up (down x), down drawn uniformly, up zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair


class LoraLinear(nn.Module):
    """A frozen linear layer with a side path, trained or fixed."""

    def __init__(self, base: nn.Linear, pair: Pair) -> None:
        super().__init__()
        self.base = base
        self.down = pair.down
        self.up = pair.up
        self.scale = pair.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (…, in) to (…, out), in the base's precision; the factors themselves stay fp32."""
        side = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return torch.add(self.base(x), side, alpha=self.scale)


class Adapter:
    """A LoRA over named linear layers of a transformer.

    `weights` is the flat fp32 buffer with everything that is trained, `weights.grad` its gradient. `layers` gives each
    layer's (down, up) as views of it. Layers of one group of `shared` read the same input and have one down between
    them, which is what one fused layer's adapter is.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        rank: int,
        alpha: float,
        device: torch.device,
        shared: Sequence[Sequence[str]] = (),
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.shapes = dict(shapes)
        self._places, count = _placed(self.shapes, rank, shared)
        self.weights = nn.Parameter(torch.zeros(count, device=device))
        self.weights.grad = torch.zeros(count, device=device)
        self.layers: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        downs: dict[int, nn.Parameter] = {}
        for name, (out, into) in self.shapes.items():
            down_at, up_at = self._places[name]
            if down_at not in downs:
                downs[down_at] = self._part(down_at, rank, into)
            self.layers[name] = (downs[down_at], self._part(up_at, out, rank))

    @classmethod
    def for_transformer(
        cls,
        transformer: nn.Module,
        targets: tuple[str, ...],
        *,
        rank: int,
        seed: int,
        device: torch.device,
        shared: Sequence[Sequence[str]] = (),
    ) -> Adapter:
        """A new adapter that changes nothing yet; alpha equals rank, so that its scale is 1."""
        shapes = {}
        for name in targets:
            layer = transformer.get_submodule(name)
            assert isinstance(layer, nn.Linear), name
            shapes[name] = (layer.out_features, layer.in_features)
        adapter = cls(shapes, rank, float(rank), device, shared)
        generator = torch.Generator().manual_seed(seed)
        for down in {id(down): down for down, _ in adapter.layers.values()}.values():
            bound = 1 / math.sqrt(down.shape[1])  # kaiming_uniform with a = sqrt(5), as PEFT starts
            down.data.copy_(torch.empty(down.shape).uniform_(-bound, bound, generator=generator))
        return adapter

    def _part(self, start: int, rows: int, columns: int) -> nn.Parameter:
        assert self.weights.grad is not None
        part = nn.Parameter(self.weights.data[start : start + rows * columns].view(rows, columns))
        # Autograd adds into an existing gradient in place, and thereby into the flat one.
        part.grad = self.weights.grad[start : start + rows * columns].view(rows, columns)
        return part

    def attached(self, transformer: nn.Module) -> AbstractContextManager[nn.Module]:
        """The transformer with this adapter in it; it is bare again afterwards, whatever happens."""
        return attached(transformer, {name: Pair(*factors, self.alpha) for name, factors in self.layers.items()})

    def require_gradients(self) -> None:
        """Backward adds into `weights.grad` from now on."""
        self.weights.requires_grad_(True)
        for down, up in self.layers.values():
            down.requires_grad_(True)
            up.requires_grad_(True)

    def lora(self, weights: torch.Tensor | None = None) -> Lora:
        """What is trained, copied to the CPU; taken from `weights` (flat, e.g. a moving average) where given."""
        flat = (self.weights.data if weights is None else weights).detach().cpu()
        pairs = {}
        for name, (out, into) in self.shapes.items():
            down_at, up_at = self._places[name]
            down, up = flat[down_at : down_at + self.rank * into], flat[up_at : up_at + self.rank * out]
            pairs[name] = Pair(down.view(self.rank, into).clone(), up.view(out, self.rank).clone(), self.alpha)
        return Lora(pairs)

    def start_from(self, lora: Lora) -> None:
        """Takes an earlier LoRA's weights as the start; layers it lacks stay new.

        A smaller rank is filled up: the added rows of the down stay as a new adapter's, their columns of the up are
        zero, so that nothing changes at first. Raises UnusableAdapter as `Lora.startable`.
        """
        for name, pair in lora.startable(self.layers, self.rank).items():
            down, up = self.layers[name]
            down.data[: pair.rank].copy_(pair.down)
            # Its own alpha goes into the factor, because ours is the rank.
            up.data.zero_()
            up.data[:, : pair.rank].copy_(pair.up.float() * (pair.scale * self.rank / self.alpha))


@contextmanager
def attached(transformer: nn.Module, pairs: Mapping[str, Pair]) -> Iterator[nn.Module]:
    """The transformer with these side paths, on its device; it is bare again afterwards, whatever happens."""
    originals: dict[str, nn.Linear] = {}
    try:
        for name, pair in pairs.items():
            layer = transformer.get_submodule(name)
            assert isinstance(layer, nn.Linear), f"{name} carries another adapter"
            originals[name] = layer
            transformer.set_submodule(name, LoraLinear(layer, pair))
        yield transformer
    finally:
        for name, layer in originals.items():
            transformer.set_submodule(name, layer)


def _placed(
    shapes: Mapping[str, tuple[int, int]], rank: int, shared: Sequence[Sequence[str]]
) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each layer's down and up begin in the flat buffer, and its length."""
    owner = {name: group[0] for group in shared for name in group}
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for name, (out, into) in shapes.items():
        first = owner.get(name, name)
        if first == name:
            down_at, end = end, end + rank * into
        else:
            assert shapes[first][1] == into, f"{name} and {first} read different inputs"
            down_at = places[first][0]
        places[name] = (down_at, end)
        end += rank * out
    return places, end
