"""Builds the miniature Ideogram 4 stage by stage; `build --model ideogram4` is its command.

The autoencoder is the miniature FLUX's, so a work folder that built FLUX is halfway here already.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2

from miniature.ideogram_lessons import Teacher, ideogram_albums
from miniature.ideogram_parts import IdeogramParts, flux2_autoencoder, new_parts, release
from miniature.ideogram_reading import train_reading
from miniature.ideogram_training import averaged, train_network
from miniature.latent_reader import train_latent_reader
from miniature.latents import Album, albums

STAGES = ("autoencoder", "words", "transformer", "unconditional", "release")
#: Minutes on two CPU cores.
MINUTES = {"words": 6.0, "latent_reader": 1.5, "transformer": 34.0, "unconditional": 5.0}

#: Sampling at guidance g counts as 1 + strength · (g - 1): in so small a world the full strength burns the colours.
TRAITS: dict[str, Any] = {"learning_rate_scale": 3, "batch_size": 4, "guidance_strength": 0.35, "ema_decay": 0.99}


def build(chosen: argparse.Namespace, stages: tuple[str, ...], vae: AutoencoderKL, device: torch.device) -> None:
    """Runs the stages that follow the autoencoder's, from what earlier ones left in the work folder."""
    # Beside FLUX's, whose autoencoder and pictures it shares.
    work: Path = chosen.work / "ideogram4"
    work.mkdir(parents=True, exist_ok=True)
    minutes = {name: getattr(chosen, f"minutes_{name}") or default for name, default in MINUTES.items()}
    parts = new_parts(device)
    twin = flux2_autoencoder(vae)
    # In a later stage it goes no further than it went in its own; then this only fetches what was learned.
    train_reading(parts, work, minutes["words"], device)
    if not {"transformer", "unconditional", "release"} & set(stages):
        return
    collection = ideogram_albums(albums(vae, chosen.work), vae, twin)
    if "transformer" in stages:
        _train_conditional(parts, collection, work, minutes)
    if "unconditional" in stages:
        _train_unconditional(parts, collection, work, minutes["unconditional"])
    if "release" in stages:
        _release(parts, twin, work, chosen.out)


def _train_conditional(parts: IdeogramParts, collection: list[Album], work: Path, minutes: dict[str, float]) -> None:
    device = collection[0].latents.device
    train_network(
        "transformer",
        parts.transformer,
        lambda seed: Teacher(parts, collection, seed),
        work,
        minutes["transformer"],
        latent_reader=train_latent_reader(collection, work, minutes["latent_reader"], device),
    )


def _train_unconditional(parts: IdeogramParts, collection: list[Album], work: Path, minutes: float) -> None:
    averaged("transformer", work, parts.unconditional)
    train_network(
        "unconditional",
        parts.unconditional,
        lambda seed: Teacher(parts, collection, seed, wordless=True),
        work,
        minutes,
        rate=0.5,
    )


def _release(parts: IdeogramParts, twin: AutoencoderKLFlux2, work: Path, out: Path) -> None:
    averaged("transformer", work, parts.transformer)
    # Before its own stage the second network is what it starts from, so that a look at the first is possible early.
    second = "unconditional" if (work / "unconditional.pt").exists() else "transformer"
    averaged(second, work, parts.unconditional)
    release(parts, twin, out, TRAITS)
    print(f"released  {out}", flush=True)
