"""Attention as a training step wants it: queries and keys normalised and rotated in one go, then whatever core is best.

Where the sequence is short and the device a CPU, plain products beat the flash kernel; everywhere else torch chooses
its kernel.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

_SHORT = 512  # tokens up to which the scores of all heads are of the size of a block's other intermediates
_HOPPER = 9  # its compute capability: H100, H200
_HOPPERS_ORDER = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)


def rotated(
    qkv: torch.Tensor, heads: int, norms: torch.Tensor, rotary: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Turns qkv (batch, tokens, 3 · heads · width) into query, key, value of (batch, heads, tokens, width).

    The value is a view of `qkv`. Queries and keys pass an RMS norm with weights `norms` (tokens or 1, 2, 1, width), and
    are turned by `rotary` (tokens, width / 2), unit complex numbers; neighbouring channels form a pair (Su et al. 2021,
    arXiv 2104.09864).
    """
    pair, value = qkv.view(*qkv.shape[:-1], 3, heads, -1).split_with_sizes((2, 1), dim=2)
    query, key = _Rotated.apply(pair, norms, rotary[:, None, None], eps)  # type: ignore[no-untyped-call]
    return query, key, value.squeeze(2).transpose(1, 2)


def kernels_in_order(device: torch.device) -> AbstractContextManager[Any]:
    """Puts cuDNN's attention first on Hopper, where it is the fastest; elsewhere torch's own order is right.

    For the whole process, and for a forward pass and its backward alike: recomputed blocks must find the same kernel.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != _HOPPER:
        return nullcontext()
    return sdpa_kernel(list(_HOPPERS_ORDER), set_priority=True)


def kernel_of(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], autocast: bool = False
) -> str:
    """Names what computes attention in training, for reports. shape: (batch, heads, tokens with text, width)."""
    if device.type == "cpu" and dtype == torch.float32 and shape[2] <= _SHORT and not autocast:
        return "plain products that keep their weights"
    if device.type == "cpu":
        return "torch's scaled_dot_product_attention for CPUs"
    # Kernels differ in the widths that they can differentiate.
    probe = torch.empty(shape, device=device, dtype=torch.bfloat16 if autocast else dtype, requires_grad=True)
    with kernels_in_order(device):
        chosen = SDPBackend(torch._fused_sdp_choice(probe, probe, probe))
    return f"torch's scaled_dot_product_attention ({chosen.name.lower().replace('_', ' ')})"


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """Attends: (batch, heads, tokens, width) to (batch, query tokens, heads · width).

    allowed: (batch, tokens), False for keys that are none; None where all are.
    """
    if query.device.type == "cpu" and query.dtype == torch.float32 and key.shape[2] <= _SHORT:
        out: torch.Tensor = _Short.apply(query, key, value, allowed)  # type: ignore[no-untyped-call]
    else:
        mask = None if allowed is None else allowed[:, None, None]
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


class _Rotated(torch.autograd.Function):
    """Computed in fp32 whatever comes in, and rounded once."""

    @staticmethod
    def forward(
        ctx: Any, pair: torch.Tensor, norms: torch.Tensor, rotary: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, ...]:
        batch, tokens, _, heads, width = pair.shape
        wide = pair.float()
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(width).add_(eps).rsqrt_()
        normed = (wide * inverse).mul_(norms)
        turned = pair.new_empty(2, batch, heads, tokens, width)
        turned.permute(1, 3, 0, 2, 4).copy_(torch.view_as_real(_complex(normed).mul_(rotary)).flatten(-2))
        ctx.save_for_backward(pair, inverse, norms, rotary)
        return turned[0], turned[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        pair, inverse, norms, rotary = ctx.saved_tensors
        turned = torch.stack([part.transpose(1, 2) for part in gradients], dim=2).float()
        slope = torch.view_as_real(_complex(turned).mul_(rotary.conj())).flatten(-2).mul_(norms)
        normed = pair.float() * inverse
        along = (slope * normed).mean(-1, keepdim=True)
        torch.mul(slope.addcmul_(normed, along, value=-1), inverse, out=slope)
        return slope.to(pair.dtype), None, None, None


class _Short(torch.autograd.Function):
    """Softmax attention in plain products; its shares are made again in the backward pass: cheap while short."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor | None
    ) -> torch.Tensor:
        flat = [part.flatten(0, 1) for part in (query, key, value)]
        ctx.save_for_backward(query, key, value)  # made flat again later: what is a view now would be kept twice
        ctx.shape = query.shape[:2]
        ctx.closed = None if allowed is None else ~allowed.repeat_interleave(query.shape[1], 0)[:, None]
        return torch.bmm(_shares(flat[0], flat[1], ctx.closed), flat[2]).view(*query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = (part.flatten(0, 1) for part in ctx.saved_tensors)
        shares = _shares(query, key, ctx.closed)
        gradient = gradients[0].reshape(-1, *gradients[0].shape[2:])
        into_value = torch.bmm(shares.transpose(1, 2), gradient)
        into_shares = torch.bmm(gradient, value.transpose(1, 2))
        slope = torch._softmax_backward_data(into_shares, shares, -1, shares.dtype).mul_(query.shape[-1] ** -0.5)
        into_query, into_key = torch.bmm(slope, key), torch.bmm(slope.transpose(1, 2), query)
        into = (part.view(*ctx.shape, *part.shape[1:]) for part in (into_query, into_key, into_value))
        return (*into, None)


def _shares(query: torch.Tensor, key: torch.Tensor, closed: torch.Tensor | None = None) -> torch.Tensor:
    """(heads, query tokens, width), (heads, tokens, width) to (heads, query tokens, tokens)."""
    scores = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
    return torch.softmax(scores if closed is None else scores.masked_fill_(closed, -torch.inf), -1)


def _complex(x: torch.Tensor) -> torch.Tensor:
    """(…, width) to (…, width / 2), neighbours paired; shares its memory."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
