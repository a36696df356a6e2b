"""Teaches the text encoders to read before the transformer listens to them.

FLUX.1's encoders arrive having read the world; ours would start as noise, and a picture is a slow teacher of words:
told only by the loss of a diffusion model, a small network first learns that there are faces, then that there are
colours, and only hours later whose colour "red" was. So both encoders first learn to say which attributes a caption
states: CLIP from its pooled vector, T5 from whichever of its tokens an attribute's own query picks. Some minutes on
captions alone; afterwards the same question stays in the transformer's training as a small part of its loss.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from miniature.training import Losses, Training, warm_cosine
from miniature.world.captions import parse_prompt
from miniature.world.person import ATTRIBUTES, Person

_BATCH = 256


class Reader(nn.Module):
    """Answers, for each attribute, which value a caption states, or that it states none."""

    def __init__(self, width: int, pooled_width: int) -> None:
        super().__init__()
        self.sizes = [len(values) + 1 for values in ATTRIBUTES.values()]
        self.queries = nn.Parameter(torch.randn(len(ATTRIBUTES), width) * width**-0.5)
        self.from_tokens = nn.ModuleList(nn.Linear(width, size) for size in self.sizes)
        self.from_pooled = nn.Linear(pooled_width, sum(self.sizes))

    def loss(self, states: torch.Tensor, pooled: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Averages the cross-entropy of all answers. states: (batch, tokens, width); said: (batch, attributes)."""
        states, pooled = states.float(), pooled.float()
        weights = torch.einsum("btw,aw->bat", states, self.queries).softmax(dim=2)
        picked = torch.einsum("bat,btw->abw", weights, states)
        by_clip = torch.split(self.from_pooled(pooled), self.sizes, dim=1)
        total = pooled.new_zeros(())
        for index, (head, heard) in enumerate(zip(self.from_tokens, by_clip, strict=True)):
            total = (
                total + F.cross_entropy(head(picked[index]), said[:, index]) + F.cross_entropy(heard, said[:, index])
            )
        return total / (2 * len(self.sizes))


def said_in(captions: list[str], device: torch.device) -> torch.Tensor:
    """Gives the index of the value each caption states, (batch, attributes); one past the last for none."""
    rows = []
    for text in captions:
        asked = parse_prompt(text)
        rows.append(
            [values.index(asked[name]) if name in asked else len(values) for name, values in ATTRIBUTES.items()]
        )
    return torch.tensor(rows, device=device)


@dataclass(frozen=True)
class WordTask:
    """Says what the encoders of one model read: captions of people, as states of tokens and a pooled vector."""

    encoders: dict[str, nn.Module]
    #: Of the states, and of the pooled vector.
    widths: tuple[int, int]
    caption: Callable[[Person, random.Random], str]
    encode: Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]
    batch: int
    rate: float
    warm_steps: int


def train_words(task: WordTask, path: Path, minutes: float, device: torch.device) -> Reader:
    """Trains or goes on training the encoders in place; the state lies at the path."""
    torch.manual_seed(1)
    reader = Reader(*task.widths).to(device)
    learning = nn.ModuleDict({**task.encoders, "reader": reader})
    optimizer = torch.optim.AdamW(learning.parameters(), lr=task.rate, betas=(0.9, 0.98), weight_decay=0.01)

    def losses(training: Training) -> Losses:
        captions = [task.caption(Person.sample(training.rng), training.rng) for _ in range(task.batch)]
        with torch.autocast(device.type, torch.bfloat16):
            states, pooled = task.encode(captions)
        loss = reader.loss(states, pooled, said_in(captions, device))
        return loss, {"loss": loss}

    Training(path, minutes, learning, [optimizer], partial(warm_cosine, warm_steps=task.warm_steps)).run(losses)
    return reader
