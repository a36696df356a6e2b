"""FLUX's forward pass arranged for training an adapter: the same weights and numbers, fewer and larger operations.

The modules are diffusers' own; only the order of work differs. What the frozen parts decide (embeddings, modulation,
rotary tables) is computed without a graph, queries, keys and values are one product, normalisation and rotation of
queries and keys are one operation with a backward of its own, the two streams stay joined after the double blocks, and
the last block does nothing for text that no loss will see. `tests/models/flux/test_forward.py` holds it to diffusers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tintype.lora.adapter import Adapter
from tintype.models.attention import attend, rotated
from tintype.models.family import Features, Latents
from tintype.models.products import OwnForward


class FluxForward(OwnForward):
    """Called for velocities, which are differentiated."""

    def __init__(self, transformer: Any, adapter: Adapter, *, recomputed: int = 0, rounded: bool = False) -> None:
        super().__init__(transformer, adapter, recomputed=recomputed, rounded=rounded)
        self._rotary: dict[tuple[int, int, int], torch.Tensor] = {}
        singles = transformer.single_transformer_blocks
        self._doubles = [self._double(n, block) for n, block in enumerate(transformer.transformer_blocks)]
        self._singles = [self._single(n, block, last=n == len(singles) - 1) for n, block in enumerate(singles)]

    def __call__(self, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float) -> torch.Tensor:
        """The velocity as `Family.predict_velocity` gives it."""
        transformer = self.transformer
        with torch.no_grad():
            image = transformer.x_embedder(noisy.tokens)
            text = transformer.context_embedder(features.tokens)
            times = [sigma.to(image.dtype) * 1000]
            if transformer.config.guidance_embeds:
                times.append(torch.full_like(times[0], guidance) * 1000)
            vector = F.silu(transformer.time_text_embed(*times, features.pooled))
            rotary = self._rotary_table(text.shape[1], noisy.rows, noisy.columns, image.device)
        for n, double in enumerate(self._doubles):
            image, text = self._run(n, double, image, text, vector, rotary)
        length, joined = text.shape[1], torch.cat([text, image], dim=1)
        for n, single in enumerate(self._singles, len(self._doubles)):
            joined = self._run(n, single, joined, length, vector, rotary)
        with torch.no_grad():
            scale, shift = transformer.norm_out.linear(vector)[:, None].chunk(2, dim=-1)
        image = _modulated(joined, scale, shift) if self._singles else _modulated(image, scale, shift)
        velocity: torch.Tensor = transformer.proj_out(image)
        return velocity

    def _double(self, n: int, block: Any) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
        at, attn = f"transformer_blocks.{n}", block.attn
        qkv = self._product(block, at, "attn.to_q", "attn.to_k", "attn.to_v")
        text_qkv = self._product(block, at, "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
        to_out, text_to_out = self._product(block, at, "attn.to_out.0"), self._product(block, at, "attn.to_add_out")
        grow, shrink = self._product(block, at, "ff.net.0.proj"), self._product(block, at, "ff.net.2")
        text_grow = self._product(block, at, "ff_context.net.0.proj")
        text_shrink = self._product(block, at, "ff_context.net.2")

        def run(
            image: torch.Tensor, text: torch.Tensor, vector: torch.Tensor, rotary: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                shift, scale, gate, shift2, scale2, gate2 = block.norm1.linear(vector)[:, None].chunk(6, dim=-1)
                about_text = block.norm1_context.linear(vector)[:, None]
                t_shift, t_scale, t_gate, t_shift2, t_scale2, t_gate2 = about_text.chunk(6, dim=-1)
                length = text.shape[1]
                norms = _norms(attn.norm_added_q, attn.norm_added_k, length)
                norms = torch.cat([norms, _norms(attn.norm_q, attn.norm_k, image.shape[1])])
            both = torch.cat(
                [text_qkv(_modulated(text, t_scale, t_shift)), qkv(_modulated(image, scale, shift))], dim=1
            )
            out = attend(*rotated(both, attn.heads, norms, rotary, attn.norm_q.eps))
            image = torch.addcmul(image, gate, to_out(out[:, length:]))
            text = torch.addcmul(text, t_gate, text_to_out(out[:, :length]))
            image = torch.addcmul(image, gate2, shrink.recomputing(_gelu, grow(_modulated(image, scale2, shift2))))
            text = torch.addcmul(
                text, t_gate2, text_shrink.recomputing(_gelu, text_grow(_modulated(text, t_scale2, t_shift2)))
            )
            return image, text

        return run

    def _single(self, n: int, block: Any, *, last: bool) -> Callable[..., torch.Tensor]:
        at, attn = f"single_transformer_blocks.{n}", block.attn
        qkv = self._product(block, at, "attn.to_q", "attn.to_k", "attn.to_v")
        grow, shrink = self._product(block, at, "proj_mlp"), self._product(block, at, "proj_out")

        def run(joined: torch.Tensor, length: int, vector: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                shift, scale, gate = block.norm.linear(vector)[:, None].chunk(3, dim=-1)
                norms = _norms(attn.norm_q, attn.norm_k, 1)
            normed = _modulated(joined, scale, shift)
            query, key, value = rotated(qkv(normed), attn.heads, norms, rotary, attn.norm_q.eps)
            if last:  # only the image goes on; text is still read as keys and values
                query, normed, joined = query[:, :, length:], normed[:, length:], joined[:, length:]
            out = shrink.recomputing(_beside_gelu, attend(query, key, value), grow(normed))
            return torch.addcmul(joined, gate, out)

        return run

    def _rotary_table(self, text: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        """(tokens, head width / 2) unit complex numbers in fp32: bf16 would blur neighbouring positions."""
        key = (text, rows, columns)
        if key not in self._rotary:
            ids = torch.zeros(text + rows * columns, 3, device=device)
            ids[text:, 1] = torch.arange(rows, device=device).repeat_interleave(columns)
            ids[text:, 2] = torch.arange(columns, device=device).repeat(rows)
            cos, sin = self.transformer.pos_embed(ids)
            self._rotary[key] = torch.complex(cos[:, ::2].float(), sin[:, ::2].float()).contiguous()
        return self._rotary[key]


def _modulated(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """x: (batch, tokens, width); scale, shift: (batch, 1, width)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")


def _beside_gelu(attended: torch.Tensor, grown: torch.Tensor) -> torch.Tensor:
    return torch.cat([attended, _gelu(grown)], dim=-1)


def _norms(query: Any, key: Any, tokens: int) -> torch.Tensor:
    """(tokens, 2, 1, head width): the weights of the two norms, for so many tokens."""
    return torch.stack([query.weight, key.weight])[None, :, None].float().expand(tokens, -1, -1, -1)
