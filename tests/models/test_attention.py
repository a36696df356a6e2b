"""Normalised, rotated attention against the plain operations it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb

from tintype.models.attention import attend, rotated

BATCH, TOKENS, HEADS, WIDTH = 2, 6, 3, 8
EPS = 1e-6


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(qkv, norm weights, angles)."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(BATCH, TOKENS, 3 * HEADS * WIDTH, generator=generator)
    return (
        qkv,
        torch.rand(TOKENS, 2, 1, WIDTH, generator=generator),
        torch.randn(TOKENS, WIDTH // 2, generator=generator),
    )


def plain(qkv: torch.Tensor, norms: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Operation by operation, as diffusers has it."""
    query, key, value = (part.unflatten(-1, (HEADS, -1)) for part in qkv.chunk(3, -1))
    turned = []
    for n, part in enumerate((query, key)):
        normed = F.rms_norm(part, (WIDTH,), eps=EPS) * norms[:, n]
        wide = angles.repeat_interleave(2, -1)
        turned.append(apply_rotary_emb(normed, (wide.cos(), wide.sin()), sequence_dim=1).transpose(1, 2))
    rotated_query, rotated_key = turned
    return F.scaled_dot_product_attention(rotated_query, rotated_key, value.transpose(1, 2)).transpose(1, 2).flatten(2)


def test_forward_and_backward_are_those_of_the_plain_operations() -> None:
    qkv, norms, angles = given()
    outputs, gradients = [], []
    for ours in (True, False):
        leaf = qkv.clone().requires_grad_()
        if ours:
            out = attend(*rotated(leaf, HEADS, norms, torch.polar(torch.ones_like(angles), angles), EPS))
        else:
            out = plain(leaf, norms, angles)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        outputs.append(out)
        gradients.append(leaf.grad)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [TOKENS, 600])
def test_short_and_long_sequences_agree_with_torchs_own_attention(tokens: int) -> None:
    query, key, value = (torch.randn(1, 2, tokens, 4, requires_grad=True) for _ in range(3))
    few = query[:, :, -3:]
    wanted = F.scaled_dot_product_attention(few, key, value)
    wanted_gradient = torch.autograd.grad(wanted.sum() + wanted.square().sum(), (query, key, value))
    found = attend(query[:, :, -3:], key, value).view(1, 3, 2, 4).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    gradient = torch.autograd.grad(found.sum() + found.square().sum(), (query, key, value))
    torch.testing.assert_close(gradient, wanted_gradient)


def test_bf16_is_rotated_in_fp32_and_rounded_once() -> None:
    qkv, norms, angles = given()
    rotary = torch.polar(torch.ones_like(angles), angles)
    rounded = qkv.bfloat16()
    query, key, value = rotated(rounded, HEADS, norms, rotary, EPS)
    exact_query, exact_key, _ = rotated(rounded.float(), HEADS, norms, rotary, EPS)
    assert query.dtype == key.dtype == value.dtype == torch.bfloat16
    assert torch.equal(query, exact_query.bfloat16())
    assert torch.equal(key, exact_key.bfloat16())
