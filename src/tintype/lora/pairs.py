"""A layer's two factors, and the exact ways between one fused layer and the separate ones it stacks.

The original FLUX code keeps query, key and value (and in single blocks the MLP's entry) in one matrix, diffusers keeps
them apart; trainers follow one or the other. With W = [W1; W2; …] stacked by output:

* separate to fused: downs stacked, ups block-diagonal. The rank is the sum, alpha grows with it, nothing is lost. Where
  all parts share one down, that one serves the whole, and the rank stays.
* fused to separate: where the blocks show, each part gets its own back; else all parts share the down and take their
  rows of the up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tintype.lora.keys import shown
from tintype.lora.tensor_file import unusable

# The Frobenius norm of one layer's change; a layer of FLUX itself has about 60.
_LARGEST_CHANGE = 1e6


@dataclass(frozen=True)
class Pair:
    """One layer's factors: its weight changes by (alpha / rank) · up @ down."""

    down: torch.Tensor  # (rank, in)
    up: torch.Tensor  # (out, rank)
    alpha: float

    @classmethod
    def exactly(cls, change: torch.Tensor) -> Pair:
        """Makes factors of a change, (out, in), as it is: one is the change, the other the narrower side's identity."""
        out, into = change.shape
        identity = torch.eye(min(out, into), dtype=change.dtype)
        down, up = (change, identity) if out < into else (identity, change)
        return cls(down, up, float(len(identity)))

    @property
    def rank(self) -> int:
        """Counts the values between the two factors."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Gives the layer's own shape, (out, in)."""
        return self.up.shape[0], self.down.shape[1]

    @property
    def scale(self) -> float:
        """Gives the strength of the change."""
        return self.alpha / self.rank

    @property
    def silent(self) -> bool:
        """Tells whether the layer stays as it is."""
        return self.alpha == 0 or not bool(self.up.any()) or not bool(self.down.any())

    def change(self) -> torch.Tensor:
        """Computes what is added to the layer's weight, (out, in)."""
        return self.scale * (self.up.float() @ self.down.float())

    def bound(self) -> float:
        """Computes a value no less than the Frobenius norm of the change; not finite if a factor is not."""
        down, up = (float(torch.linalg.vector_norm(factor.double())) for factor in (self.down, self.up))
        return abs(self.scale) * down * up

    def plus(self, other: Pair) -> Pair:
        """Makes factors of the sum of both changes."""
        ups = [pair.up * pair.scale for pair in (self, other)]
        return Pair(torch.cat([self.down, other.down]), torch.cat(ups, 1), float(self.rank + other.rank))

    def swapped(self) -> Pair:
        """Puts the output's halves in the other order."""
        return Pair(self.down, torch.cat(self.up.chunk(2)[::-1]), self.alpha)

    def to(self, device: torch.device) -> Pair:
        """Moves both factors to a device."""
        return Pair(self.down.to(device), self.up.to(device), self.alpha)

    def cast(self, dtype: torch.dtype) -> Pair:
        """Copies both factors in a precision, sharing no memory with another pair's, as a file wants it."""
        down, up = (
            factor.to(dtype, copy=True, memory_format=torch.contiguous_format) for factor in (self.down, self.up)
        )
        return Pair(down, up, self.alpha)


def check_sane(name: str, bound: float) -> None:
    """Raises UnusableAdapter for a change that is not finite or too large: such a file would load, and draw black."""
    if not math.isfinite(bound):
        raise unusable(f"This LoRA is broken: {shown(name)} holds values that are not finite (NaN or infinite).")
    if bound > _LARGEST_CHANGE:
        raise unusable(f"This LoRA is broken: the values of {shown(name)} are far too large ({bound:.0e}).")


def fuse(parts: Sequence[Pair | None], sizes: Sequence[int]) -> Pair:
    """Makes one pair for the stack of these layers, of which None stay as they are. sizes: outputs of each part.

    The scale is that of the first part that has one; where another's differs, it goes into that part's up.
    """
    present = [part for part in parts if part is not None]
    first = present[0]
    if len(present) == len(parts) and all(
        part.alpha == first.alpha and torch.equal(part.down, first.down) for part in present
    ):
        return Pair(first.down, torch.cat([part.up for part in present]), first.alpha)
    scale = next((part.scale for part in present if part.scale), 0.0)
    rank = sum(part.rank for part in present)
    up = first.up.new_zeros(sum(sizes), rank)
    row = column = 0
    for part, size in zip(parts, sizes, strict=True):
        if part is not None:
            up[row : row + size, column : column + part.rank] = (
                part.up if part.scale == scale else part.up * (part.scale / scale)
            )
            column += part.rank
        row += size
    return Pair(torch.cat([part.down for part in present]), up, scale * rank)


def split(pair: Pair, sizes: Sequence[int]) -> list[Pair | None]:
    """Takes a fused pair apart, each part with the same change as before; None where one does not change at all.

    If no part changes (a file written before the first step), all are kept.
    """
    blocks = torch.split(pair.up, list(sizes))
    owned = None if pair.silent else _owned_columns(blocks)
    if owned is None:
        parts = [Pair(pair.down, block, pair.alpha) for block in blocks]
    else:
        each = zip(blocks, owned, strict=True)
        parts = [Pair(pair.down[own], block[:, own], pair.scale * int(own.sum())) for block, own in each]
    return [part if pair.silent or bool(part.up.any()) else None for part in parts]


def difference(one: Pair, other: Pair) -> float:
    """Measures how far apart two changes of one layer are, as a share of the first's size (Frobenius norms)."""
    if one.scale == other.scale and torch.equal(one.down, other.down) and torch.equal(one.up, other.up):
        return 0.0
    size = _norm(one.down.double(), one.up.double() * one.scale)
    downs = torch.cat([one.down.double(), other.down.double()])
    ups = torch.cat([one.up.double() * one.scale, -other.up.double() * other.scale], dim=1)
    return _norm(downs, ups) / size if size else float(_norm(downs, ups) > 0)


def _norm(down: torch.Tensor, up: torch.Tensor) -> float:
    """The Frobenius norm of up @ down without forming it: QR leaves factors of the rank's size."""
    left, right = torch.linalg.qr(up).R, torch.linalg.qr(down.T).R
    return float(torch.linalg.matrix_norm(left @ right.T).item())


def _owned_columns(blocks: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """(blocks, rank): which columns are each block's own, if no two use the same one; else None.

    Equal shares, in order, where the blocks keep to them, as adapters of one rank fuse: one may use less than its own.
    """
    used = torch.stack([block.any(dim=0) for block in blocks])
    count, rank = used.shape
    equal = torch.eye(count, dtype=torch.bool).repeat_interleave(max(rank // count, 1), dim=1)
    if rank % count == 0 and not bool((used & ~equal).any()):
        return equal
    return None if bool((used.sum(dim=0) > 1).any()) else used
