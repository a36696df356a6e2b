"""A person's own scale: 0 is a stranger, 1 is as alike as their own photos are to each other.

A cosine means something else for every embedding, and for every set of photos: with one face in ten lights even true
pairs are far apart. So the scale is read off the photos at hand. The strangers are what the base draws of the same
prompts without the LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tintype.likeness.identity import similarities

_MOST = 1.1  # more than one's own photos is not more like them
_LEAST_SPAN = 0.05  # between strangers and own photos; below it nothing can be told apart


@dataclass(frozen=True)
class Scale:
    """Measures likeness to `references`, (photos, width). `held_out` tells whether they were never trained on."""

    references: torch.Tensor
    stranger: float
    own: float
    held_out: bool

    @classmethod
    def of(cls, photos: torch.Tensor, held_out: Sequence[int], strangers: torch.Tensor) -> Scale | None:
        """Reads the scale off embedded photos and strangers; None where they cannot be told apart.

        With photos held out these are the references, and their pairs with the others what one's own are like.
        """
        known = ~photos.isnan().any(dim=1)
        rest = torch.tensor([known[n] and n not in held_out for n in range(len(photos))], dtype=torch.bool)
        references = photos[[n for n in held_out if known[n]]] if held_out else photos[rest]
        if not len(references) or not rest.any():
            return None
        pairs = similarities(references, photos[rest])
        if not held_out:
            pairs = pairs.fill_diagonal_(torch.nan)
        own, stranger = pairs.nanmedian(), similarities(strangers, references).nanmean()
        if own.isnan() or stranger.isnan() or own - stranger < _LEAST_SPAN:
            return None
        return cls(references, float(stranger), float(own), bool(held_out))

    def likeness(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores embedded pictures, (pictures,); NaN where one was not measured.

        Where no photo was held out, the nearest photo does not count: it may have been copied.
        """
        found = similarities(pictures, self.references)
        if not self.held_out and found.shape[1] > 1:
            found = (found.sum(dim=1) - found.max(dim=1).values)[:, None] / (found.shape[1] - 1)
        score = (found.mean(dim=1) - self.stranger) / (self.own - self.stranger)
        return score.clamp(0.0, _MOST)
