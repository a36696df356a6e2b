"""Who is who in Portrait World, for the miniatures: a small network that puts pictures of one subject close together.

It was trained on drawings of subjects and knows no names of marks (miniature/identity_training.py). It is not the judge
of the tests and shares nothing with it, so that the judge can check what is chosen by this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tintype.models.family import pixels_of

WEIGHTS = Path(__file__).parent / "portrait_world.safetensors"
SIDE = 64  # pixels, the true size of a miniature's square picture
_WIDTH = 48


class IdentityNetwork(nn.Module):
    """Embeds pictures (batch, 3, 64, 64) in [-1, 1] as unit vectors (batch, 48)."""

    def __init__(self) -> None:
        super().__init__()

        def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(4, outputs), nn.SiLU()]

        self.look = nn.Sequential(*stage(3, 16, 2), *stage(16, 32, 2), *stage(32, 48, 1), *stage(48, 24, 2))
        self.place = nn.Linear(24 * 8 * 8, _WIDTH)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeds; see the class."""
        return F.normalize(self.place(self.look(pixels).flatten(1)), dim=1)


class PortraitWorldIdentity:
    """Embeds pictures of Portrait World's people."""

    name = "Portrait World"
    same_person = 0.75  # of 40 subjects, all pairs of one lie above 0.85, and 99.9 % of all others below 0.66

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._network = IdentityNetwork()
        self._network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
        self._network.eval()

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Embeds every picture: (pictures, 48) unit vectors."""
        embedded: torch.Tensor = self._network(to_pixels(images))
        return embedded


def to_pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    """Stacks pictures of any size and shape, the middle of each, as (batch, 3, 64, 64) in [-1, 1]."""
    squares = []
    for image in images:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, (left, top, left + side, top + side))
        squares.append(square)
    return pixels_of(squares)
