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

from tintype.lora.lora import Lora, linear_shapes
from tintype.lora.pairs import Pair

Groups = Sequence[Sequence[str]]  # of layers' names


class LoraLinear(nn.Module):
    """A frozen linear layer with a side path, trained or fixed."""

    def __init__(self, base: nn.Linear, pair: Pair) -> None:
        super().__init__()
        self.base = base
        self.down = pair.down
        self.up = pair.up
        self.scale = pair.scale

    @property
    def weight(self) -> torch.Tensor:
        """Gives the base's own, whose precision T5 asks for."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps x, (…, in), to (…, out) in the base's precision; the factors themselves stay fp32."""
        side = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return torch.add(self.base(x), side, alpha=self.scale)


class Adapter:
    """A LoRA over named linear layers of a transformer.

    `weights` is the flat fp32 buffer with everything that is trained, `weights.grad` its gradient. `layers` gives each
    layer's (down, up) as views of it. Layers of one group of `shared` read the same input and have one down between
    them, which is what one fused layer's adapter is.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], rank: int, alpha: float, device: torch.device, shared: Groups = ()
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        owner = {name: group[0] for group in shared for name in group}
        inputs = {owner.get(name, name): into for name, (_, into) in shapes.items()}
        count = rank * (sum(inputs.values()) + sum(out for out, _ in shapes.values()))
        self.weights = nn.Parameter(torch.zeros(count, device=device))
        self.weights.grad = torch.zeros(count, device=device)
        self.layers: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        downs: dict[str, nn.Parameter] = {}
        end = 0
        for name, (out, into) in shapes.items():
            first = owner.get(name, name)
            assert inputs[first] == into, f"{name} and {first} read different inputs"
            if first not in downs:
                downs[first] = self._part(end, rank, into)
                end += rank * into
            self.layers[name] = (downs[first], self._part(end, out, rank))
            end += rank * out

    @classmethod
    def for_transformer(
        cls, base: nn.Module, targets: Sequence[str], *, rank: int, seed: int, device: torch.device, shared: Groups = ()
    ) -> Adapter:
        """Makes an adapter that changes nothing yet; alpha equals rank, so that its scale is 1."""
        shapes = linear_shapes(base)
        adapter = cls({name: shapes[name] for name in targets}, rank, float(rank), device, shared)
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
        """Puts this adapter beside the transformer's layers; takes it off again whatever happens."""
        return attached(transformer, {name: Pair(*factors, self.alpha) for name, factors in self.layers.items()})

    def require_gradients(self) -> None:
        """Makes every backward pass add into `weights.grad` from now on."""
        self.weights.requires_grad_(True)
        for down, up in self.layers.values():
            down.requires_grad_(True)
            up.requires_grad_(True)

    def lora(self, weights: torch.Tensor | None = None) -> Lora:
        """Copies what is trained to the CPU; from `weights` (flat, e.g. a moving average) where given."""
        flat = (self.weights.data if weights is None else weights).detach().cpu()

        def copied(part: nn.Parameter) -> torch.Tensor:
            return flat[part.storage_offset() :][: part.numel()].view(part.shape).clone()

        return Lora({name: Pair(copied(down), copied(up), self.alpha) for name, (down, up) in self.layers.items()})

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
    """Puts these side paths, on the transformer's device, beside its layers; takes them off again whatever happens."""
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
