"""Reads Ideogram 4's transformers in the layouts people have, and the layers of them that read text by themselves."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import Ideogram4Transformer2DModel
from diffusers.models.normalization import RMSNorm
from torch import nn

from tintype.models.contents import Part, quantisation
from tintype.models.ideogram4 import FAMILY
from tintype.models.ideogram4.network import pin_rotary
from tintype.models.layouts import diffusers_tensors, read_network


class TextProjection(nn.Module):
    """The two frozen layers of the transformer that read text states, by themselves."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.llm_cond_norm = RMSNorm(width, eps=1e-6, elementwise_affine=True)
        self.llm_cond_proj = nn.Linear(width, hidden)


def read_transformer(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    precision: str = "stored",
    quantised_dir: Path | None = None,
) -> Ideogram4Transformer2DModel:
    """Reads the frozen network onto the device. Raises WeightsMissing for files in a layout that is not known."""
    network: Ideogram4Transformer2DModel = read_network(
        Ideogram4Transformer2DModel,
        FAMILY,
        Part(folder),
        device,
        dtype,
        precision=precision,
        quantised_dir=quantised_dir,
    )
    if network.rotary_emb.inv_freq.is_meta:
        network.rotary_emb.inv_freq = torch.empty(0, device=device)  # not in any file; pin_rotary computes it
    pin_rotary(network)
    return network


def read_text_projection(folder: Path, device: torch.device, dtype: torch.dtype) -> TextProjection | None:
    """Reads the text projection alone, or None where it is quantised and comes with the whole network only."""
    names = ("llm_cond_norm.weight", "llm_cond_proj.weight", "llm_cond_proj.bias")
    if quantisation(folder) == "bitsandbytes":
        return None
    found = dict(diffusers_tensors(Part(folder), FAMILY, dtype, only=names))
    hidden, width = found["llm_cond_proj.weight"].shape
    projection = TextProjection(width, hidden)
    projection.load_state_dict(found)
    return projection.to(device, dtype).eval().requires_grad_(False)
