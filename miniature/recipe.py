"""What all recipes share: a work folder, minutes for each stage, the autoencoder, its latents and a reader of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import AutoencoderKL

from miniature.autoencoder import train_autoencoder
from miniature.latent_reader import LatentReader, train_latent_reader
from miniature.latents import Album, albums


class Recipe:
    """Builds one miniature: a method for each stage, which goes on from what earlier stages left in the work folder.

    A stage that needs another calls it: that goes no further than in its own turn, and only fetches what was learned.
    """

    #: The stages in their order, and the minutes of each on two CPU cores.
    MINUTES: ClassVar[Mapping[str, float]]
    WEIGHTS: ClassVar[Path]

    def __init__(self, work: Path, out: Path | None, minutes: Mapping[str, float], device: torch.device) -> None:
        self.shared, self.out, self.device = work, out or self.WEIGHTS, device
        self.minutes = {**self.MINUTES, **minutes}

    @property
    def work(self) -> Path:
        """Names the folder of this miniature's own stages."""
        return self.shared

    @cached_property
    def vae(self) -> AutoencoderKL:
        return self.autoencoder()

    @cached_property
    def albums(self) -> list[Album]:
        return albums(self.vae, self.shared)

    @property
    def collection(self) -> list[Album]:
        """Returns the pictures as this miniature's transformer sees them."""
        return self.albums

    def autoencoder(self) -> AutoencoderKL:
        return train_autoencoder(self.shared / "autoencoder.pt", self.minutes["autoencoder"], self.device)

    def latent_reader(self) -> LatentReader:
        return train_latent_reader(self.collection, self.work / "latent_reader.pt", self.minutes["latent_reader"])
