"""Whether a picture is new, or one of the photos again: how much closer it is to one of them than to any other.

A good LoRA's pictures are close to all photos of the person, a copy to one. Compared is what is seen, not who: small
pictures of all of it, in the latents of the base's own autoencoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tintype.models.family import Latents

_GRID = 8  # places a side


def appearance(latents: Latents) -> torch.Tensor:
    """Describes what pictures look like, wherever they are alike: (pictures, 8 · 8 · channels)."""
    batch, _, channels = latents.tokens.shape
    grid = latents.tokens.float().reshape(batch, latents.rows, latents.columns, channels).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(grid, _GRID).flatten(1)


def originality(pictures: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
    """Scores pictures by their appearance, (pictures,): 0 is a copy of a photo, 1 no closer to one than to another."""
    if len(photos) < 2:
        return torch.full((len(pictures),), torch.nan)
    nearest = torch.cdist(pictures.cpu(), photos.cpu()).topk(2, largest=False).values
    return (nearest[:, 0] / nearest[:, 1].clamp(min=1e-12)).clamp(0.0, 1.0)
