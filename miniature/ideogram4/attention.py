"""Ideogram's attention in plain matrix products, since training through the fused kernel takes a CPU far longer."""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_ideogram4 import Ideogram4Attention


class PlainAttention:
    """Computes what Ideogram's own processor does, for a batch, in matrix products."""

    def __call__(
        self,
        attn: Ideogram4Attention,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        heads = (attn.num_heads, attn.head_dim)
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, heads))
        key = attn.norm_k(attn.to_k(hidden_states).unflatten(-1, heads))
        value = attn.to_v(hidden_states).unflatten(-1, heads)
        query = _turned(query, image_rotary_emb) * attn.head_dim**-0.5
        key = _turned(key, image_rotary_emb)
        scores = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1))
        if attention_mask is not None:
            scores = scores.masked_fill(~attention_mask, -1e4)
        weights = scores.softmax(dim=-1, dtype=torch.float32)
        mixed = torch.matmul(weights.to(value.dtype), value.transpose(1, 2)).transpose(1, 2).flatten(2)
        projected: torch.Tensor = attn.to_out[0](mixed)
        return projected


def _turned(heads: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = (part.unsqueeze(2) for part in rotary)
    first, second = heads.chunk(2, dim=-1)
    turned: torch.Tensor = heads * cos + torch.cat([-second, first], dim=-1) * sin
    return turned
