"""What the miniature FLUX is taught: flow matching with FLUX.1-dev's conventions, and distilled guidance at the end.

The network sees sigma in [0, 1] and predicts ε - x₀. Text is padded to its window and nothing is masked, because the
pipeline masks nothing. For the last part of the time the guidance input goes from 1 to 5 and the target becomes the
data's velocity plus a mild share of (conditional - unconditional) as a frozen copy sees it: learning and distilling in
one.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from diffusers import FluxPipeline
from torch import nn

from miniature.flux.attention import PlainAttention
from miniature.flux.parts import Parts, encode_captions
from miniature.flux.vocabulary import WINDOW
from miniature.latent_reader import LatentReader
from miniature.latents import Album
from miniature.training import Losses, Training
from miniature.transformer_training import flow_loss, sample_sigmas, showing_loss
from miniature.word_training import Reader, said_in
from miniature.world.captions import caption

BATCH = 48
#: Share of the time after which guidance is distilled.
DISTIL_FROM = 0.9
#: Weight of "which attributes does the caption state" beside the loss of flow matching.
READING_SHARE = 0.05
#: Weight of "does the implied clean picture show what the caption states" beside it.
SHOWING_SHARE = 0.06
#: (conditional - unconditional) counts this much per unit of guidance above one.
GUIDANCE_SLOPE = 0.5
#: Other text windows than the standard one, so that they are not foreign: (tokens, share of steps, batch).
_OTHER_WINDOWS = ((64, 0.02, 32), (96, 0.02, 24), (192, 0.01, 16), (512, 0.008, 8))


@dataclass(frozen=True)
class Batch:
    """Holds pictures with their captions; clean, noise and noisy: (batch, tokens, 32); sigma: (batch,)."""

    album: Album
    window: int
    captions: list[str]
    clean: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor
    noisy: torch.Tensor

    @property
    def usual(self) -> bool:
        """Tells whether it has one of the few shapes that are worth compiling for."""
        return self.window == WINDOW and self.clean.shape[1] in (64, 48)


class FluxTask:
    """Teaches the transformer and both text encoders together; the reader of captions learns on with them."""

    blocks = "transformer_blocks"

    def __init__(self, parts: Parts, reader: Reader, latent_reader: LatentReader, collection: list[Album]) -> None:
        parts.transformer.set_attn_processor(PlainAttention())
        self.parts, self.reader, self.latent_reader, self.collection = parts, reader, latent_reader, collection
        self.learning = parts.trained()
        self.learning["reader"] = reader
        self.teacher: Parts | None = None

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        return torch.compile(self.parts.transformer, dynamic=False)

    def losses(self, training: Training) -> Losses:
        """Draws a batch and returns its losses: of flow matching, reading captions, and showing what they state."""
        self._teach(training)
        batch = self._batch(training.rng)
        device = batch.clean.device
        guidance = torch.ones(len(batch.captions), device=device)
        target = batch.noise - batch.clean
        with torch.autocast(device.type, torch.bfloat16):
            if self.teacher is not None:
                guidance = 1 + 4 * torch.rand_like(guidance)
                apart = _guided_part(self.teacher, batch)
                target = target + GUIDANCE_SLOPE * (guidance - 1)[:, None, None] * apart
            states, pooled = encode_captions(self.parts, batch.captions, batch.window)
            network = self._compiled if batch.usual else self.parts.transformer
            seen = velocity(network, batch, guidance, states, pooled)
        said = said_in(batch.captions, device)
        loss = flow_loss(seen, target, batch.album)
        reading = self.reader.loss(states, pooled, said)
        implied = batch.noisy - batch.sigma[:, None, None] * seen
        showing = showing_loss(self.latent_reader, implied, batch.album, said)
        total = loss + READING_SHARE * reading + SHOWING_SHARE * showing
        return total, {"loss": loss, "reading": reading, "showing": showing}

    def state_dict(self) -> dict[str, Any]:
        return {} if self.teacher is None else self.teacher.trained().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher = None
        if state:
            self.teacher = _frozen(self.parts, self.parts.trained())
            self.teacher.trained().load_state_dict(state)

    def _teach(self, training: Training) -> None:
        """Makes the average the teacher once it is time to distil; before, also after added time, there is none."""
        if training.fraction <= DISTIL_FROM:
            self.teacher = None
        elif self.teacher is None:
            assert training.average is not None
            self.teacher = _frozen(self.parts, training.average)

    def _batch(self, rng: random.Random) -> Batch:
        album = rng.choices(self.collection, [album.share for album in self.collection])[0]
        window, count = WINDOW, BATCH
        roll = rng.random()
        for other, share, fewer in _OTHER_WINDOWS:
            if 0 <= roll < share:
                window, count = other, fewer
            roll -= share
        chosen = [rng.randrange(len(album.people)) for _ in range(count)]
        captions = [caption(album.people[index], rng) for index in chosen]
        clean = album.latents[chosen].float()
        noise = torch.randn_like(clean)
        # The mean is the μ by which the scheduler shifts for this many tokens.
        mean = 0.5 + (clean.shape[1] - 256) * (1.15 - 0.5) / (4096 - 256)
        sigma = sample_sigmas(count, mean, 1.0, clean.device)
        at = sigma[:, None, None]
        return Batch(album, window, captions, clean, noise, sigma, (1 - at) * clean + at * noise)


def velocity(
    transformer: Callable[..., Any], batch: Batch, guidance: torch.Tensor, states: torch.Tensor, pooled: torch.Tensor
) -> torch.Tensor:
    """Predicts ε - x₀, (batch, tokens, 32)."""
    album, device = batch.album, states.device
    predicted: torch.Tensor = transformer(
        hidden_states=batch.noisy,
        timestep=batch.sigma,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=states,
        txt_ids=torch.zeros(states.shape[1], 3, device=device),
        img_ids=FluxPipeline._prepare_latent_image_ids(1, album.rows, album.columns, device, torch.float32),
        return_dict=False,
    )[0]
    return predicted.float()


@torch.no_grad()
def _guided_part(teacher: Parts, batch: Batch) -> torch.Tensor:
    """Subtracts the unconditional velocity from the conditional one, both as the frozen teacher sees them."""
    count = len(batch.captions)
    ones = torch.ones(count, device=batch.clean.device)
    states, pooled = encode_captions(teacher, batch.captions, batch.window)
    empty, hollow = encode_captions(teacher, [""], batch.window)
    conditional = velocity(teacher.transformer, batch, ones, states, pooled)
    blank = empty.expand(count, -1, -1), hollow.expand(count, -1)
    return conditional - velocity(teacher.transformer, batch, ones, *blank)


def _frozen(parts: Parts, weights: nn.Module) -> Parts:
    """Copies these weights, among which others may be, into parts that learn no more."""
    modules = {name: copy.deepcopy(weights.get_submodule(name)).requires_grad_(False) for name in parts.trained()}
    return replace(parts, **modules)
