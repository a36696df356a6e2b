"""Small LoRAs of chance that change what the miniature draws, without a training."""

from __future__ import annotations

from pathlib import Path

import torch

from tintype.lora.adapter import Adapter
from tintype.lora.write import write_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import FluxFamily


def flux_lora(flux: FluxFamily, path: Path, seed: int = 0) -> Path:
    """Writes one of rank 2 on every target, in diffusers' form."""
    adapter = Adapter.for_transformer(
        flux.load_transformer(), flux.adapter_targets, rank=2, seed=seed, device=flux.device
    )
    adapter.weights.data += 0.08 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(seed))
    return write_lora(adapter.lora(), FLUX_KEYS, path, form="diffusers", dtype=torch.float32, header={})
