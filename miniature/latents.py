"""The pictures the transformer learns from: drawn once, encoded once, kept as packed latents.

Captions are not kept: they are made anew at every step from the person behind each picture.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline

from miniature.autoencoder import pixels
from miniature.world.drawing import draw
from miniature.world.person import Person

#: One nominal pixel is a sixteenth of a drawn one: who asks for 1024 px gets 64 px.
NOMINAL_SCALE = 16
#: Four pixels a latent (three levels), two latents a token.
TOKEN_PIXELS = 8
#: (width, height) in pixels, how many pictures of it, and the share of steps that show it.
SHAPES: dict[tuple[int, int], tuple[int, float]] = {
    (64, 64): (20_000, 0.58),
    (64, 48): (6_000, 0.12),
    (48, 64): (4_000, 0.08),
    (64, 40): (2_500, 0.05),
    (64, 32): (2_500, 0.04),
    (40, 64): (2_500, 0.04),
    (48, 48): (2_500, 0.05),
    (32, 32): (1_500, 0.04),
}


@dataclass
class Album:
    """Holds pictures of one shape: packed latents (pictures, tokens, 32) in half precision, and who is on them."""

    width: int
    height: int
    latents: torch.Tensor
    people: list[Person]

    @property
    def rows(self) -> int:
        return self.height // TOKEN_PIXELS

    @property
    def columns(self) -> int:
        return self.width // TOKEN_PIXELS

    @property
    def share(self) -> float:
        """Gives the share of steps that show this shape."""
        return SHAPES[self.width, self.height][1]


def people_of(width: int, height: int, count: int) -> list[Person]:
    """Names who is on the pictures of one shape: always the same people, so that cached latents stay theirs."""
    rng = random.Random(f"album {width}x{height}")
    return [Person.sample(rng) for _ in range(count)]


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Packs (batch, channels, rows, columns) as (batch, tokens, 4 · channels), channel slowest, column fastest."""
    batch, channels, rows, columns = latents.shape
    packed: torch.Tensor = FluxPipeline._pack_latents(latents, batch, channels, rows, columns)
    return packed


@torch.no_grad()
def encode(vae: AutoencoderKL, people: list[Person], width: int, height: int) -> torch.Tensor:
    """Returns packed latents as the transformer sees them: (mean - shift) · scaling."""
    device = next(vae.parameters()).device
    seen = []
    for start in range(0, len(people), 100):
        drawn = pixels([draw(person, width, height) for person in people[start : start + 100]])
        with torch.autocast(device.type, torch.bfloat16):
            means = vae.encode(drawn.to(device)).latent_dist.mean.float()
        seen.append(pack((means - vae.config.shift_factor) * vae.config.scaling_factor).half())
    return torch.cat(seen)


def albums(vae: AutoencoderKL, work: Path) -> list[Album]:
    """Makes an album of each shape, or loads it from the work folder."""
    made = []
    for (width, height), (count, _) in SHAPES.items():
        path = work / f"latents_{width}x{height}.pt"
        people = people_of(width, height, count)
        if not path.exists():
            print(f"latents  {count} pictures of {width}x{height}", flush=True)
            torch.save(encode(vae, people, width, height), path)
        latents = torch.load(path, weights_only=True).to(next(vae.parameters()).device)
        made.append(Album(width, height, latents, people))
    return made
