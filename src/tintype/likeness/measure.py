"""The three scores of a LoRA's pictures: like the person, true to the prompt, and no copy of a photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from PIL import Image

from tintype.likeness.adherence import adherence, preference
from tintype.likeness.identity import Identity
from tintype.likeness.originality import appearance, originality
from tintype.likeness.scale import Scale
from tintype.models.family import Family, Latents, pixels_of

_PHOTO_SIDE = 1024  # nominal pixels at which photos are compared with pictures; squeezed, since colours count there


@dataclass(frozen=True)
class Scores:
    """Each from 0 to 1, likeness a little above where a picture is liker than the photos; None: not measured."""

    likeness: float | None
    adherence: float | None
    originality: float | None

    def __str__(self) -> str:
        scores = asdict(self).items()
        return ", ".join(f"{name} {'not measured' if score is None else f'{score:.2f}'}" for name, score in scores)

    @property
    def total(self) -> float:
        """What candidates are compared by: the product of what was measured. Likeness, which a LoRA is for, counts
        twice, and more than alike is no better."""
        measured = (self.likeness, self.likeness, self.adherence, self.originality)
        return math.prod(min(1.0, score) for score in measured if score is not None)


class Measure:
    """Measures pictures of one person, drawn with a LoRA, each from a prompt of its own.

    `embedded` are the photos as `identity` has embedded them, `held_out` places among them. `prompts` say what the base
    was told for its pictures, with "a person" for a trigger; `guidance` is the one that it was trained with.
    """

    def __init__(
        self,
        family: Family,
        identity: Identity,
        photos: Sequence[Image.Image],
        embedded: torch.Tensor,
        held_out: Sequence[int],
        prompts: Sequence[str],
        base_pictures: Sequence[Image.Image],
        guidance: float,
    ) -> None:
        self._family, self._identity, self._prompts, self._guidance = family, identity, prompts, guidance
        self.scale = Scale.of(embedded, held_out, identity.embed(base_pictures))
        trained = [photo.resize((_PHOTO_SIDE, _PHOTO_SIDE)) for n, photo in enumerate(photos) if n not in held_out]
        self._photos = torch.cat([appearance(self._encoded([photo])) for photo in trained])
        self._of_base = preference(family, self._encoded(base_pictures), prompts, guidance)

    def scores(self, pictures: Sequence[Image.Image]) -> Scores:
        """Scores a LoRA's pictures, the mean over all of them. The transformer has to be bare."""
        encoded = self._encoded(pictures)
        alike = self.scale.likeness(self._identity.embed(pictures)) if self.scale else torch.tensor([])
        followed = adherence(preference(self._family, encoded, self._prompts, self._guidance), self._of_base)
        return Scores(*(_mean(scores) for scores in (alike, followed, originality(appearance(encoded), self._photos))))

    def _encoded(self, pictures: Sequence[Image.Image]) -> Latents:
        return self._family.encode_images(pixels_of(pictures))


def _mean(scores: torch.Tensor) -> float | None:
    """The mean of what was measured."""
    mean = float(scores.nanmean()) if len(scores) else math.nan
    return None if math.isnan(mean) else round(mean, 4)
