"""The trained part: two thin matrices beside each linear layer, all of them views of one flat buffer.

One buffer means that the optimiser, clipping, averaging and checkpoints are one operation each instead of hundreds;
on a small model that is most of the cost around the step. The arithmetic is PEFT's (Hu et al. 2021, arXiv 2106.09685):
W x + (alpha / rank) · up (down x), down drawn uniformly, up zero.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from tintype.lora.read import LoraFile, Pair, unusable


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained side path."""

    def __init__(self, base: nn.Linear, down: nn.Parameter, up: nn.Parameter, scale: float) -> None:
        super().__init__()
        self.base = base
        self.down = down
        self.up = up
        self.scale = scale

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

    @contextmanager
    def attached(self, transformer: nn.Module) -> Iterator[nn.Module]:
        """The transformer with this adapter in it; it is bare again afterwards, whatever happens."""
        originals: dict[str, nn.Linear] = {}
        try:
            for name, (down, up) in self.layers.items():
                layer = transformer.get_submodule(name)
                assert isinstance(layer, nn.Linear), f"{name} carries another adapter"
                originals[name] = layer
                transformer.set_submodule(name, LoraLinear(layer, down, up, self.alpha / self.rank))
            yield transformer
        finally:
            for name, layer in originals.items():
                transformer.set_submodule(name, layer)

    def require_gradients(self) -> None:
        """Backward adds into `weights.grad` from now on."""
        self.weights.requires_grad_(True)
        for down, up in self.layers.values():
            down.requires_grad_(True)
            up.requires_grad_(True)

    def state(self, weights: torch.Tensor | None = None) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Each layer's (down, up) on the CPU, taken from `weights` (e.g. a moving average) where given."""
        flat = (self.weights.data if weights is None else weights).detach().cpu()
        found = {}
        for name, (out, into) in self.shapes.items():
            down_at, up_at = self._places[name]
            down, up = flat[down_at : down_at + self.rank * into], flat[up_at : up_at + self.rank * out]
            found[name] = (down.view(self.rank, into).clone(), up.view(out, self.rank).clone())
        return found

    def start_from(self, lora: LoraFile, *, loc: tuple[str | int, ...]) -> int:
        """Takes an earlier LoRA's weights as the start; layers it lacks stay new. Returns how many it had.

        A smaller rank is filled up: the added rows of the down stay as a new adapter's, their columns of the up are
        zero, so that nothing changes at first. Raises UnusableAdapter for a larger rank, which could only be cut.
        """
        taken = startable(lora, self.layers, self.rank, loc=loc)
        for name, pair in taken.items():
            down, up = self.layers[name]
            down.data[: pair.rank].copy_(pair.down)
            # Its own alpha goes into the factor, because ours is the rank.
            up.data.zero_()
            up.data[:, : pair.rank].copy_(pair.up.float() * (pair.scale * self.rank / self.alpha))
        return len(taken)


def startable(lora: LoraFile, targets: Collection[str], rank: int, *, loc: tuple[str | int, ...]) -> dict[str, Pair]:
    """The layers of a LoRA that training of `targets` at `rank` can start from; raises as `Adapter.start_from`."""
    taken = {name: pair for name, pair in lora.pairs.items() if name in targets}
    if not taken:
        raise unusable("None of this LoRA's layers is trained here.", loc)
    if (largest := max(pair.rank for pair in taken.values())) > rank:
        raise unusable(
            f"This LoRA has rank {largest}, and rank {rank} is to be trained, which would lose some of it.",
            loc,
            remedy=f"Ask for rank {largest} or more.",
        )
    return taken


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
