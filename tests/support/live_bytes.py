"""Counts what a computation takes at its fullest beside the weights: on the meta device, where it costs no memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _AttentionAsOne(TorchFunctionMode):
    """On the meta device attention is spelled out, with scores that no real kernel keeps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else kwargs["query"])
        return func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):
    """Follows every tensor from its first appearance to its end."""

    def __init__(self, frozen: set[int]) -> None:
        super().__init__()
        self._known, self._now, self.fullest = dict.fromkeys(frozen, 0), 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (place := tensor.untyped_storage())._cdata not in self._known:
                self._known[place._cdata] = place.nbytes()
                self._now += place.nbytes()
                self.fullest = max(self.fullest, self._now)
                weakref.finalize(place, self._end, place._cdata)
        return made

    def _end(self, place: int) -> None:
        self._now -= self._known.pop(place)


def fullest(compute: Callable[[], Any], *networks: torch.nn.Module) -> int:
    """Bytes of all tensors that live at once while it computes, those of the networks left out."""
    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    live = _Live({tensor.untyped_storage()._cdata for tensor in tensors})
    with torch.no_grad(), _AttentionAsOne(), live:
        compute()
    return live.fullest
