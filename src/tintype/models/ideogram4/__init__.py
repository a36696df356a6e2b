"""Ideogram 4 (Ideogram), and the miniature of it."""

from __future__ import annotations

from tintype.catalog.ideogram_v4 import STEPS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.licence import Licence
from tintype.models.registry import IN_FOLDERS, Download, FamilySpec, TrainingDefaults
from tintype.settings import GIB

#: Turns Ideogram 4's text encoder, which is Qwen3-VL 8B, into the language model that can write prompts.
PROMPT_HEAD_REPOSITORY = "diffusers/qwen3-vl-8b-instruct-lm-head"

FAMILY = FamilySpec(
    name="ideogram4",
    short_title="Ideogram 4",
    title="Ideogram 4",
    licence=Licence(
        name="Ideogram Non-Commercial Model Agreement",
        address="https://huggingface.co/ideogram-ai/ideogram-4-nf4",
        weights="the weights, and LoRAs made from them, are for non-commercial use only; training for commercial use "
        "and hosting for revenue need a licence from Ideogram.",
        images="are for non-commercial use too: products that earn money, and advertising for them, are not.",
    ),
    repository="CalamitousFelicitousness/Ideogram-4-bf16-Diffusers",
    parts=("transformer", "unconditional_transformer", "vae", "text_encoder"),
    gpu_bytes=24 * GIB,
    least_gpu_bytes=10 * GIB,
    text_window=2048,
    implementation="tintype.models.ideogram4.model:Ideogram4Family",
    lora_keys=IDEOGRAM_KEYS,
    pipeline="Ideogram4Pipeline",
    network="Ideogram4Transformer2DModel",
    encoder_bytes=16_458_000_000,  # Qwen3-VL 8B without its head, in bf16
    autoencoder_bytes=168_000_000,
    generating_steps=STEPS["BALANCED"],
    readable="Use a folder in diffusers' layout with bf16 weights, with bitsandbytes nf4 (on a GPU), or with fp8 e4m3 "
    "weights and their scales.",
    further_repositories=(PROMPT_HEAD_REPOSITORY,),
    forms={"nf4": (Download("ideogram-ai/ideogram-4-nf4-diffusers", IN_FOLDERS), Download(PROMPT_HEAD_REPOSITORY))},
    small_form="nf4",
    training_defaults=TrainingDefaults(sigma_std=1.5),
)
