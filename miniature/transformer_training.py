"""Trains a miniature's transformer on flow matching: one loop, and a task that says what differs from model to model.

Both models learn from x(s) = (1 - s) x₀ + s ε, where s is called sigma. What they share beside that (how much noise is
drawn, what counts more in the loss, how a picture is held to its caption) is here too.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from miniature.latent_reader import LatentReader
from miniature.latents import TOKEN_PIXELS, Album
from miniature.training import Losses, Stateful, Training
from miniature.world.person import ATTRIBUTES

_MUON_RATE, _ADAM_RATE = 3e-3, 1.5e-3
_COLORED = torch.tensor([name in ("hair_color", "hat_color", "shirt", "background") for name in ATTRIBUTES])


class Task(Stateful, Protocol):
    """Says what one transformer is taught: the modules that learn, and the losses of a batch that it draws."""

    @property
    def learning(self) -> nn.ModuleDict: ...

    @property
    def blocks(self) -> str:
        """Says what the names of the weights inside the transformer's blocks contain."""

    def losses(self, training: Training) -> Losses: ...


def train_transformer(task: Task, path: Path, minutes: float, peak: float = 1.0) -> None:
    """Trains or goes on training a task's modules; `peak` is the share of the usual learning rates it rises to."""
    # Muon for the blocks' matrices, which learn in fewer steps with it at the same time a step, AdamW for the rest.
    named = list(task.learning.named_parameters())
    matrices = [parameter for name, parameter in named if parameter.ndim == 2 and task.blocks in name]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for _, parameter in named if id(parameter) not in chosen]
    optimizers = [
        torch.optim.Muon(matrices, lr=_MUON_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]
    torch.manual_seed(0)

    def rate(fraction: float, step: int) -> float:
        return peak * _rate_share(fraction, step)

    Training(path, minutes, task.learning, optimizers, rate, average=True, task=task).run(task.losses)


def _rate_share(fraction: float, step: int) -> float:
    """Gives the share of the peak rate: a start, a plateau, from 40 % of the time half a cosine."""
    fall = max(0.0, fraction - 0.4) / 0.6
    return min(1.0, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall)))


def sample_sigmas(count: int, mean: float, deviation: float, device: torch.device) -> torch.Tensor:
    """Draws half as the real model trains, logit-normal with this mean and deviation, and half near pure noise.

    In so small a picture the colour of a wall can be read off the noisy latents up to sigma 0.9, beyond which the first
    half has one draw in twenty; only from there do words teach anything, so the other half lies about there.
    """
    normal = torch.randn(count, device=device)
    as_trained = torch.rand(count, device=device) < 0.5
    return torch.sigmoid(torch.where(as_trained, mean + deviation * normal, 2.5 + 1.2 * normal))


def flow_loss(seen: torch.Tensor, target: torch.Tensor, album: Album) -> torch.Tensor:
    """Averages squared errors, (batch, tokens, channels): the middle, with the face, counts up to twice."""
    width, height, device = album.width, album.height, seen.device
    y = (torch.arange(album.rows, device=device)[:, None] + 0.5 - album.rows / 2) * TOKEN_PIXELS / min(width, height)
    x = (torch.arange(album.columns, device=device)[None] + 0.5 - album.columns / 2) * TOKEN_PIXELS / min(width, height)
    care = 1 + torch.exp(-(x.square() + y.square()) / (2 * 0.2**2))
    return ((seen - target).square() * (care / care.mean()).reshape(-1, 1)).mean()


def showing_loss(reader: LatentReader, implied: torch.Tensor, album: Album, said: torch.Tensor) -> torch.Tensor:
    """Measures how far the colours of clean pictures that a velocity implies are from those the captions state.

    Only colours: near noise the best answer is a blur, which has colours, but no expression yet.
    """
    unsaid = said == torch.tensor(reader.sizes, device=said.device) - 1
    stated = torch.where(unsaid | ~_COLORED.to(said.device), -1, said)
    return reader.loss(implied, album.rows, album.columns, stated)
