"""FLUX's attention in plain matrix products, since training through the fused kernel takes a CPU five times as long."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention


class PlainAttention:
    """Computes what FLUX's own processor does, for a batch, in matrix products."""

    def __call__(
        self,
        attn: FluxAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        heads = (-1, attn.head_dim)
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, heads))
        key = attn.norm_k(attn.to_k(hidden_states).unflatten(-1, heads))
        value = attn.to_v(hidden_states).unflatten(-1, heads)
        if encoder_hidden_states is not None:
            text_query = attn.norm_added_q(attn.add_q_proj(encoder_hidden_states).unflatten(-1, heads))
            text_key = attn.norm_added_k(attn.add_k_proj(encoder_hidden_states).unflatten(-1, heads))
            text_value = attn.add_v_proj(encoder_hidden_states).unflatten(-1, heads)
            query = torch.cat([text_query, query], dim=1)
            key = torch.cat([text_key, key], dim=1)
            value = torch.cat([text_value, value], dim=1)
        query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1) * attn.head_dim**-0.5
        key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        weights = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1)).softmax(dim=-1, dtype=torch.float32)
        mixed = torch.matmul(weights.to(value.dtype), value.transpose(1, 2)).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return mixed
        words = encoder_hidden_states.shape[1]
        image: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed[:, words:]))
        text: torch.Tensor = attn.to_add_out(mixed[:, :words])
        return image, text
