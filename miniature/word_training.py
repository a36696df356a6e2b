"""Teaches the text encoders to read before the transformer listens to them.

FLUX.1's encoders arrive having read the world; ours would start as noise, and a picture is a slow teacher of words:
told only by the loss of a diffusion model, a small network first learns that there are faces, then that there are
colours, and only hours later whose colour "red" was. So both encoders first learn to say which attributes a caption
states: CLIP from its pooled vector, T5 from whichever of its tokens an attribute's own query picks. Some minutes on
captions alone; afterwards the same question stays in the transformer's training as a small part of its loss.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from miniature.pacing import Pace, warm_cosine
from miniature.parts import Parts, encode_captions
from miniature.vocabulary import WINDOW
from miniature.world.captions import caption, parse_prompt
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
        """Mean cross-entropy of both encoders' answers. states: (batch, tokens, width); said: (batch, attributes)."""
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
    """(batch, attributes): the index of the value each caption states; one past the last for none."""
    rows = []
    for text in captions:
        asked = parse_prompt(text)
        rows.append(
            [values.index(asked[name]) if name in asked else len(values) for name, values in ATTRIBUTES.items()]
        )
    return torch.tensor(rows, device=device)


def new_reader(parts: Parts) -> Reader:
    torch.manual_seed(1)
    return Reader(parts.t5.config.d_model, parts.clip.config.hidden_size).to(parts.t5.device)


def train_words(parts: Parts, work: Path, minutes: float, device: torch.device) -> Reader:
    """Trains or goes on training both encoders in place; the state lies in work/words.pt."""
    reader = new_reader(parts)
    learning = nn.ModuleDict({"clip": parts.clip, "t5": parts.t5, "reader": reader})
    optimizer = torch.optim.AdamW(learning.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.01)
    pace = Pace("words", work / "words.pt", minutes, save_every_seconds=30)
    if state := pace.restore():
        learning.load_state_dict(state["learning"])
        optimizer.load_state_dict(state["optimizer"])
    rng = random.Random(f"words {pace.step}")
    for step in pace.steps():
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * warm_cosine(pace.fraction, step, 50)
        captions = [caption(Person.sample(rng), rng) for _ in range(_BATCH)]
        with torch.autocast(device.type, torch.bfloat16):
            states, pooled = encode_captions(parts, captions, WINDOW, device)
        loss = reader.loss(states, pooled, said_in(captions, device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        optimizer.step()
        pace.tell(10, loss=loss.item())
        if pace.save_due():
            pace.save(learning=learning.state_dict(), optimizer=optimizer.state_dict())
    pace.save(learning=learning.state_dict(), optimizer=optimizer.state_dict())
    return reader
