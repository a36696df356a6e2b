"""How the miniature Ideogram 4 is built: a work folder that built FLUX has its autoencoder and its pictures already."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLFlux2
from torch import nn

from miniature.ideogram4.batches import Batches, ideogram_albums
from miniature.ideogram4.captions import ideogram_caption
from miniature.ideogram4.parts import TEXT_WIDTH, Parts, encode_captions, flux2_autoencoder, new_parts, pipeline
from miniature.ideogram4.task import Ideogram4Task
from miniature.latents import Album
from miniature.recipe import Recipe
from miniature.release import release
from miniature.training import load_average
from miniature.transformer_training import train_transformer
from miniature.weights import IDEOGRAM4_WEIGHTS
from miniature.word_training import WordTask, train_words
from tintype.models.ideogram4.network import TEXT_LAYERS

#: Sampling at guidance g counts as 1 + strength · (g - 1): in so small a world the full strength burns the colours.
TRAITS = {"learning_rate_scale": 3, "batch_size": 4, "guidance_strength": 0.35, "ema_decay": 0.99}
_WIDE = len(TEXT_LAYERS) * TEXT_WIDTH


class Ideogram4Recipe(Recipe):
    """Builds the miniature Ideogram 4."""

    MINUTES: ClassVar = {
        "autoencoder": 17,
        "words": 6,
        "latent_reader": 1.5,
        "transformer": 34,
        "unconditional": 5,
        "release": 0,
    }
    WEIGHTS = IDEOGRAM4_WEIGHTS

    @property
    def work(self) -> Path:
        return self.shared / "ideogram4"

    @cached_property
    def parts(self) -> Parts:
        return new_parts(self.device)

    @cached_property
    def packed(self) -> tuple[list[Album], AutoencoderKLFlux2]:
        """The pictures in Ideogram's packing, and the autoencoder under FLUX.2's class with their statistics."""
        twin = flux2_autoencoder(self.vae)
        return ideogram_albums(self.albums, self.vae, twin), twin

    @property
    def collection(self) -> list[Album]:
        return self.packed[0]

    def words(self) -> None:
        """Teaches the text encoder to read captions before any transformer listens, and then leaves it alone.

        The real one arrives having read the world and stays frozen.
        """
        encoder = self.parts.text_encoder
        task = WordTask(
            {"text_encoder": encoder.language_model},
            (_WIDE, _WIDE),
            ideogram_caption,
            partial(heard_states, self.parts),
            batch=64,
            rate=2e-3,
            warm_steps=100,
        )
        # Plain arithmetic is faster to train through than the fused kernel, which is faster without gradients.
        encoder.set_attn_implementation("eager")
        train_words(task, self.work / "words.pt", self.minutes["words"], self.device)
        encoder.set_attn_implementation("sdpa")
        encoder.requires_grad_(False).eval()

    def transformer(self) -> None:
        self.words()
        task = Ideogram4Task(self.parts.transformer, Batches(self.parts, self.collection), self.latent_reader())
        train_transformer(task, self.work / "transformer.pt", self.minutes["transformer"])

    def unconditional(self) -> None:
        self._load("transformer", self.parts.unconditional)
        task = Ideogram4Task(self.parts.unconditional, Batches(self.parts, self.collection, wordless=True))
        train_transformer(task, self.work / "unconditional.pt", self.minutes["unconditional"], peak=0.5)

    def release(self) -> None:
        self.words()
        self._load("transformer", self.parts.transformer)
        # Before its own stage the second network is what it starts from, so that a look at the first is possible early.
        second = "unconditional" if (self.work / "unconditional.pt").exists() else "transformer"
        self._load(second, self.parts.unconditional)
        release(pipeline(self.parts, self.packed[1]), self.out, TRAITS)

    def _load(self, stage: str, transformer: nn.Module) -> None:
        load_average(self.work / f"{stage}.pt", nn.ModuleDict({"transformer": transformer}))


def heard_states(parts: Parts, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the transformer will get, and the last token alone, which has read everything before it.

    Alone among the taps of a real encoder the raw scale means nothing, so the transformer's norm comes first.
    """
    states, present = encode_captions(parts, captions, None)
    states = F.rms_norm(states.float(), (_WIDE,), eps=1e-6) * present[..., None]
    return states, states[torch.arange(len(captions), device=states.device), present.sum(1) - 1]
