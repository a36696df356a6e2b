"""Normalised, rotated attention against the plain operations it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb

from tintype.models.attention import attend, kernel_of, kernels_in_order, rotated

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


@pytest.mark.parametrize("major", [8, 9, 10, 12])
def test_cudnn_comes_first_on_hopper_and_nowhere_else(major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    before = order()
    with kernels_in_order(torch.device("cuda")):
        inside = order()
        assert inside == before if major != 9 else inside[0] == "CUDNN_ATTENTION"
        assert set(inside) >= {"CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH"}
    assert order() == before


def order() -> list[str]:
    return [backend.name for backend in torch.nn.attention._cur_sdpa_kernel_backends(with_priority=True)]


def test_the_kernel_is_asked_for_with_the_shape_and_gradients_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.Tensor] = []

    def choose(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
        asked.append(query)
        return int(torch.nn.attention.SDPBackend.FLASH_ATTENTION.value)

    monkeypatch.setattr(torch, "_fused_sdp_choice", choose)
    shape = (1, 18, 4352, 256)  # Ideogram's
    assert "flash attention" in kernel_of(torch.device("meta"), torch.bfloat16, shape)
    assert (asked[0].shape, asked[0].requires_grad, asked[0].dtype) == (shape, True, torch.bfloat16)
