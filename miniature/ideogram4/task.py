"""What the miniature Ideogram 4's two transformers are taught: the one that listens, and the one that only looks.

Flow matching with Ideogram's signs: the network is told 1 - sigma and predicts x₀ - ε. The conditional network learns
from captions; the unconditional one starts as its copy and learns the same without a word, which takes it a fraction of
the time. Guidance is the difference of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from diffusers import Ideogram4Transformer2DModel
from torch import nn

from miniature.ideogram4.attention import PlainAttention
from miniature.ideogram4.batches import Batches
from miniature.latent_reader import LatentReader
from miniature.latents import NOMINAL_SCALE
from miniature.training import Losses, Training
from miniature.transformer_training import flow_loss, sample_sigmas, showing_loss
from tintype.models.ideogram4.network import predict, project_text, rotary_positions

#: Weight of "does the implied clean picture show the colours that the caption states" beside flow matching's loss.
SHOWING_SHARE = 0.03


class Ideogram4Task:
    """Teaches one transformer; with a reader of latents, that pictures show what their captions state."""

    blocks = "layers."

    def __init__(
        self, transformer: Ideogram4Transformer2DModel, batches: Batches, latent_reader: LatentReader | None = None
    ) -> None:
        transformer.set_attn_processor(PlainAttention())
        self.transformer, self.batches, self.latent_reader = transformer, batches, latent_reader
        self.learning = nn.ModuleDict({"transformer": transformer})

    @cached_property
    def _compiled(self) -> Callable[..., torch.Tensor]:
        return torch.compile(_velocity, dynamic=False)

    def losses(self, training: Training) -> Losses:
        """Draws a batch and returns the losses of flow matching, and of showing what the captions state."""
        batch = self.batches.sample(training.rng, training.step)
        album, device = batch.album, batch.clean.device
        noise = torch.randn_like(batch.clean)
        sigma = sample_sigmas(len(noise), *sigma_distribution(album.width, album.height), device)
        noisy = torch.lerp(batch.clean, noise, sigma[:, None, None])
        words = 0 if batch.states is None else batch.states.shape[1]
        cos, sin = rotary_positions(self.transformer, album.rows, album.columns, words, device)
        network = self._compiled if batch.usual else _velocity
        with torch.autocast(device.type, torch.bfloat16):
            states = None if batch.states is None else batch.states.float()
            seen = network(self.transformer, noisy, 1 - sigma, cos, sin, states, batch.present)
        loss = flow_loss(seen, batch.clean - noise, album)
        if self.latent_reader is None or batch.said is None:
            return loss, {"loss": loss}
        showing = showing_loss(self.latent_reader, noisy + sigma[:, None, None] * seen, album, batch.said)
        return loss + SHOWING_SHARE * showing, {"loss": loss, "showing": showing}

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


def sigma_distribution(width: int, height: int) -> tuple[float, float]:
    """Gives the mean and deviation of sigma's logit, as Ideogram 4 trains at the nominal size."""
    return 0.5 * math.log(width * height * NOMINAL_SCALE**2 / 512**2), 1.5


def _velocity(
    transformer: Ideogram4Transformer2DModel,
    noisy: torch.Tensor,
    time: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    states: torch.Tensor | None,
    present: torch.Tensor | None,
) -> torch.Tensor:
    """Predicts x₀ - ε, (batch, tokens, 32)."""
    text = None if states is None else project_text(transformer, states)
    return predict(transformer, noisy, time, (cos, sin), text, present).float()
