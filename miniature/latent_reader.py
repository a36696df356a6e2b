"""Reads attributes off latents, so that the transformer hears when a picture is not what its caption says.

To flow matching a hat of the wrong colour is a small error: eight tokens of sixty-four, in a picture that near pure
noise cannot be right anyway. To whoever asked for a red hat it is the whole error. So a small network first learns to
read clean and disturbed latents, and then the clean picture that the transformer's velocity implies has to read as the
caption says. That agrees with flow matching, whose best answer reads so too; it only says it louder.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from miniature.latents import Album
from miniature.training import Losses, Training, warm_cosine
from miniature.world.person import ATTRIBUTES, Person

_WIDTH, _BATCH = 64, 128


class LatentReader(nn.Module):
    """Answers, for each attribute, which value latents show, or that it is not to be seen."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = [len(values) + 1 for values in ATTRIBUTES.values()]
        self.features = nn.Sequential(
            nn.Conv2d(channels + 2, _WIDTH, 1),
            nn.GELU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.GELU(),
        )
        self.queries = nn.Parameter(torch.randn(len(ATTRIBUTES), _WIDTH) * _WIDTH**-0.5)
        self.answers = nn.ModuleList(nn.Linear(_WIDTH, size) for size in self.sizes)

    def forward(self, tokens: torch.Tensor, rows: int, columns: int) -> list[torch.Tensor]:
        """Reads tokens (batch, rows · columns, channels) into one (batch, values + 1) of logits for each attribute."""
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)
        down = torch.linspace(-1, 1, rows, device=grid.device)[:, None].expand(rows, columns)
        across = torch.linspace(-1, 1, columns, device=grid.device)[None].expand(rows, columns)
        places = torch.stack([down, across]).expand(len(grid), -1, -1, -1)
        seen = self.features(torch.cat([grid, places], dim=1)).flatten(2)
        weights = torch.einsum("bwt,aw->bat", seen, self.queries).softmax(dim=2)
        picked = torch.einsum("bat,bwt->abw", weights, seen)
        return [head(part) for head, part in zip(self.answers, picked, strict=True)]

    def loss(self, tokens: torch.Tensor, rows: int, columns: int, asked: torch.Tensor) -> torch.Tensor:
        """Averages cross-entropy over attributes; asked: (batch, attributes), -1 where nothing was said."""
        answers = self(tokens, rows, columns)
        total = tokens.new_zeros(())
        for index, logits in enumerate(answers):
            losses = F.cross_entropy(logits, asked[:, index], ignore_index=-1, reduction="sum")
            total = total + losses / (asked[:, index] != -1).sum().clamp(min=1)
        return total / len(answers)


def shown_on(people: list[Person], device: torch.device) -> torch.Tensor:
    """Gives the index of the value each shows, (people, attributes); one past the last where none is seen."""
    rows = []
    for person in people:
        seen = person.visible()
        rows.append([values.index(seen[name]) if name in seen else len(values) for name, values in ATTRIBUTES.items()])
    return torch.tensor(rows, device=device)


def train_latent_reader(collection: list[Album], path: Path, minutes: float) -> LatentReader:
    """Trains or goes on training; the state lies at the path."""
    torch.manual_seed(2)
    device = collection[0].latents.device
    reader = LatentReader(collection[0].latents.shape[2]).to(device)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    shown = [shown_on(album.people, device) for album in collection]

    def losses(training: Training) -> Losses:
        rng = training.rng
        which = rng.choices(range(len(collection)), [len(album.people) for album in collection])[0]
        album = collection[which]
        chosen = [rng.randrange(len(album.people)) for _ in range(_BATCH)]
        clean = album.latents[chosen].float()
        disturbed = clean + torch.rand(_BATCH, 1, 1, device=device) * torch.randn_like(clean)
        loss = reader.loss(disturbed, album.rows, album.columns, shown[which][chosen])
        return loss, {"loss": loss}

    Training(path, minutes, reader, [optimizer], warm_cosine, clip=False).run(losses)
    return reader.eval().requires_grad_(False)
