"""One pass through Ideogram 4's transformer, for text that was trimmed to its tokens and projected beforehand.

diffusers' own forward takes 53,248 values a token, projects them at every call, pads text to a window of 2,048 and
masks the padding densely. None of that changes the result, so none of it is done here: the same modules, called in the
same order, on [image][text] without padding. Two numbers must not follow the network into bf16: rotary frequencies,
because image positions start at 65,536 where bf16 steps by 512, and time, which bf16 rounds to 1/256 near the clean
end.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_ideogram4 import IMAGE_POSITION_OFFSET, Ideogram4MRoPE

#: Decoder layers of the text encoder whose outputs condition the transformer.
TEXT_LAYERS = (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35)
Rotary = tuple[torch.Tensor, torch.Tensor]


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokenizes a prompt as the text encoder reads it: one user's turn, and the opening of the answer."""
    turn = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    whole = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(whole, add_special_tokens=False).input_ids
    return ids


def tapped_states(text_encoder: Any, token_ids: torch.Tensor) -> torch.Tensor:
    """Turns (batch, tokens) ids of equally long texts into (batch, tokens, 13 · width): raw outputs of TEXT_LAYERS.

    The 13 values of one hidden unit are neighbours, as the transformer expects them. Causal, so that tokens appended
    on the right change nothing before them.
    """
    model = text_encoder.language_model
    embedded = model.embed_tokens(token_ids)
    positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None].expand(token_ids.shape)
    rotary = model.rotary_emb(embedded, positions[None].expand(3, -1, -1))
    causal = torch.ones(token_ids.shape[1], token_ids.shape[1], dtype=torch.bool, device=token_ids.device).tril()
    allowed = causal[None, None]
    if model.config._attn_implementation == "eager":  # which adds its mask to the scores
        allowed = torch.zeros_like(allowed, dtype=embedded.dtype).masked_fill(~allowed, torch.finfo(embedded.dtype).min)
    states, tapped = embedded, []
    for index, layer in enumerate(model.layers):
        states = layer(
            states, attention_mask=allowed, position_ids=positions, past_key_values=None, position_embeddings=rotary
        )
        if index in TEXT_LAYERS:
            tapped.append(states)
    return torch.stack(tapped, dim=-1).flatten(2)


def pin_rotary(transformer: Any) -> None:
    """Gives a transformer its fp32 rotary frequencies back, which `.to(bf16)` on the whole module rounds."""
    kept = transformer.rotary_emb
    device, config = kept.inv_freq.device, transformer.config
    exact = Ideogram4MRoPE(config.attention_head_dim, config.rope_theta, config.mrope_section)
    kept.inv_freq = exact.inv_freq.to(device)


def rotary_positions(transformer: Any, rows: int, columns: int, text_tokens: int, device: torch.device) -> Rotary:
    """cos and sin, (1, rows · columns + text_tokens, head width), fp32: image tokens first, then text."""
    assert transformer.rotary_emb.inv_freq.dtype == torch.float32, "rotary frequencies left fp32: call pin_rotary"
    place = transformer.rotary_emb.inv_freq.device  # the network's own, but for one without weights
    down = torch.arange(rows, device=place).repeat_interleave(columns)
    across = torch.arange(columns, device=place).repeat(rows)
    image = torch.stack([torch.zeros_like(down), down, across], dim=1) + IMAGE_POSITION_OFFSET
    text = torch.arange(text_tokens, device=place)[:, None].expand(-1, 3)
    cos, sin = transformer.rotary_emb(torch.cat([image, text])[None])
    return cos.to(device), sin.to(device)


def embed_time(transformer: Any, time: torch.Tensor) -> torch.Tensor:
    """Embeds (batch,) fp32 model times, 0 noise and 1 clean, as what modulates every block, (batch, 1, width)."""
    assert time.dtype == torch.float32, "time must reach the sinusoids in fp32"
    embedding = transformer.t_embedding
    half = embedding.dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device) / (half - 1)
    angles = 1e4 * time[:, None] * torch.exp(-torch.log(torch.tensor(1e4, device=time.device)) * steps)
    waves = F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, embedding.dim % 2))
    hidden = F.silu(embedding.mlp_in(waves.to(embedding.mlp_in.bias.dtype)))
    return F.silu(transformer.adaln_proj(embedding.mlp_out(hidden)))[:, None]


def project_text(transformer: Any, states: torch.Tensor) -> torch.Tensor:
    """Projects (…, 13 · width) text states to (…, hidden) tokens. `transformer` may be just that part of it."""
    projected: torch.Tensor = transformer.llm_cond_proj(
        transformer.llm_cond_norm(states.to(transformer.llm_cond_proj.bias.dtype))
    )
    return projected


def embed(
    transformer: Any, noisy: torch.Tensor, text: torch.Tensor | None, present: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Makes the tokens that enter the blocks, image first, and (batch, tokens) which of them are any; None for all."""
    states = transformer.input_proj(noisy) + transformer.embed_image_indicator.weight[1]
    if text is not None:
        words = text + transformer.embed_image_indicator.weight[0]
        states = torch.cat([states, words.to(states.dtype)], dim=1)
    return states, None if present is None else F.pad(present, (noisy.shape[1], 0), value=True)


def predict(
    transformer: Any,
    noisy: torch.Tensor,
    time: torch.Tensor,
    rotary: Rotary,
    text: torch.Tensor | None = None,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Predicts clean - noise, (batch, image tokens, channels), at model time `time` (0 noise, 1 clean).

    text: (batch, text tokens, hidden), projected, or None for the image alone. present: (batch, text tokens), bool,
    only where the texts of a batch differ in length: False for tokens that are none.
    """
    modulation = embed_time(transformer, time)
    states, allowed = embed(transformer, noisy, text, present)
    mask = None if allowed is None else allowed[:, None, None]
    turned = (rotary[0].to(states.dtype), rotary[1].to(states.dtype))
    checkpointed = transformer.gradient_checkpointing and torch.is_grad_enabled()
    for block in transformer.layers:
        call = functools.partial(transformer._gradient_checkpointing_func, block) if checkpointed else block
        states = call(states, mask, turned, modulation)
    # Only image tokens have a velocity, so only they go through the last layer.
    predicted: torch.Tensor = transformer.final_layer(states[:, : noisy.shape[1]], conditioning=modulation)
    return predicted
