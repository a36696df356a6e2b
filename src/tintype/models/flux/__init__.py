"""FLUX.1 [dev] (Black Forest Labs), and the miniature of it."""

from __future__ import annotations

from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.registry import FamilySpec
from tintype.settings import GIB

FAMILY = FamilySpec(
    name="flux",
    short_title="FLUX",
    title="FLUX.1 [dev]",
    licence="FLUX.1 [dev] Non-Commercial License: the weights, and LoRAs made from them, may not be used commercially "
    "without a licence from Black Forest Labs. https://huggingface.co/black-forest-labs/FLUX.1-dev",
    repository="black-forest-labs/FLUX.1-dev",
    parts=("transformer", "vae", "text_encoder", "text_encoder_2"),
    # bf16 transformer (24 GB), activations of a 1024 px step without recomputation, encoders one after another.
    gpu_bytes=70 * GIB,
    text_window=512,
    implementation="tintype.models.flux.model:FluxFamily",
    lora_keys=FLUX_KEYS,
)
