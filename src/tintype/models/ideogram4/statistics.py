"""Ideogram 4's latent statistics, and the check that an autoencoder keeps the same ones.

The transformer was trained on latents shifted and scaled by these constants, which are published with the reference
code. diffusers reads them from the autoencoder's batch norm instead, and a stock FLUX.2 autoencoder, otherwise the same
file, keeps other numbers there: images come out, only wrong. So they are compared when a base is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

# Channel order of a token: row in the patch, column in the patch, autoencoder channel fastest.
_PUBLISHED = json.loads((Path(__file__).parent / "latent_statistics.json").read_text(encoding="utf-8"))
SHIFT, SCALE = tuple(_PUBLISHED["shift"]), tuple(_PUBLISHED["scale"])

#: Differences beyond this are another set of statistics, not rounding.
_TOLERANCE = 0.02


def settle_statistics(vae: Any) -> str:
    """Puts the known constants into an autoencoder of Ideogram's shape that has others; says so, or returns "".

    An autoencoder of another shape (a miniature, a test) has its own statistics and is left alone.
    """
    norm = vae.bn
    if norm.running_mean.numel() != len(SHIFT):
        return ""
    shift, scale = (torch.tensor(values, device=norm.running_mean.device) for values in (SHIFT, SCALE))
    deviation = (norm.running_var.float() + vae.config.batch_norm_eps).sqrt()
    furthest = max((norm.running_mean.float() - shift).abs().max().item(), (deviation / scale - 1).abs().max().item())
    if furthest <= _TOLERANCE:
        return ""
    norm.running_mean.copy_(shift)
    norm.running_var.copy_(scale.square() - vae.config.batch_norm_eps)
    return (
        f"The autoencoder's latent statistics are not Ideogram 4's (off by up to {furthest:.2f}), as in a stock FLUX.2 "
        "autoencoder; the known ones are used."
    )
