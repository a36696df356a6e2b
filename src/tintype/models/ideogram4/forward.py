"""Ideogram 4's pass through the network arranged for training an adapter: the same numbers in fewer operations.

What the frozen parts decide (time, modulation, rotary tables, the tokens that enter) is computed without a graph;
queries, keys and values are one product, and so are the two that open the MLP; the last block does nothing for text,
which no loss will see. `tests/models/ideogram4/test_forward.py` holds it to diffusers' blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tintype.lora.adapter import Adapter
from tintype.models.attention import attend
from tintype.models.ideogram4.network import Rotary, embed, embed_time
from tintype.models.products import OwnForward


class IdeogramForward(OwnForward):
    """Called for what the network predicts, which is differentiated."""

    def __init__(self, transformer: Any, adapter: Adapter, *, recomputed: int = 0, rounded: bool = False) -> None:
        super().__init__(transformer, adapter, recomputed=recomputed, rounded=rounded)
        last = len(transformer.layers) - 1
        self._blocks = [self._block(n, block, last=n == last) for n, block in enumerate(transformer.layers)]

    def __call__(
        self,
        noisy: torch.Tensor,
        time: torch.Tensor,
        rotary: Rotary,
        text: torch.Tensor | None,
        present: torch.Tensor | None,
    ) -> torch.Tensor:
        """Predicts as `network.predict` does."""
        transformer, images = self.transformer, noisy.shape[1]
        with torch.no_grad():
            modulation = embed_time(transformer, time)
            states, allowed = embed(transformer, noisy, text, present)
            cos, sin = (part[:, :, None, None].to(states.dtype) for part in rotary)
        for n, block in enumerate(self._blocks):
            states = self._run(n, block, states, images, modulation, cos, sin, allowed)
        predicted: torch.Tensor = transformer.final_layer(states[:, :images], conditioning=modulation)
        return predicted

    def _block(self, n: int, block: Any, *, last: bool) -> Callable[..., torch.Tensor]:
        at, attn = f"layers.{n}", block.attention
        qkv = self._product(block, at, "attention.to_q", "attention.to_k", "attention.to_v")
        to_out = self._product(block, at, "attention.to_out.0")
        grow = self._product(block, at, "feed_forward.w1", "feed_forward.w3")
        shrink = self._product(block, at, "feed_forward.w2")

        def run(
            states: torch.Tensor,
            images: int,
            modulation: torch.Tensor,
            cos: torch.Tensor,
            sin: torch.Tensor,
            allowed: torch.Tensor | None,
        ) -> torch.Tensor:
            with torch.no_grad():
                scale, gate, scale2, gate2 = block.adaln_modulation(modulation).chunk(4, dim=-1)
                scale, gate = (1 + scale) * block.attention_norm1.weight, gate.tanh() * block.attention_norm2.weight
                scale2, gate2 = (1 + scale2) * block.ffn_norm1.weight, gate2.tanh() * block.ffn_norm2.weight
                norms = torch.stack([attn.norm_q.weight, attn.norm_k.weight])[:, None]
            whole = qkv(_normed(states, block.attention_norm1.eps) * scale)
            parts = whole.view(*whole.shape[:2], 3, attn.num_heads, -1)
            pair, value = parts[:, :, :2], parts[:, :, 2]
            pair = _turned(_normed(pair, attn.norm_q.eps) * norms, cos, sin).transpose(1, 3)
            query, key, value = pair[:, :, 0], pair[:, :, 1], value.transpose(1, 2)
            if last:  # text is still read as keys and values
                query, states = query[:, :, :images], states[:, :images]
            out = to_out(attend(query, key, value, allowed))
            states = torch.addcmul(states, gate, _normed(out, block.attention_norm2.eps))
            out = shrink.recomputing(_gated, grow(_normed(states, block.ffn_norm1.eps) * scale2))
            return torch.addcmul(states, gate2, _normed(out, block.ffn_norm2.eps))

        return run


def _gated(grown: torch.Tensor) -> torch.Tensor:
    opened, passed = grown.chunk(2, dim=-1)
    return F.silu(opened) * passed


def _normed(x: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def _turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """heads: (batch, tokens, 2, heads, width); the first half of the channels pairs with the second."""
    first, second = heads.chunk(2, dim=-1)
    return torch.addcmul(heads * cos, torch.cat([-second, first], dim=-1), sin)
