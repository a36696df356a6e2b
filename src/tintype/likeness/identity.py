"""What tells who is in a picture: one protocol, whatever measures it.

A score is only as good as its measure, and measures differ in scale: so a report names the one it used, and nothing
compares numbers of two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image


class Identity(Protocol):
    """Embeds pictures so that those of one person are close. `name` is what a report calls it.

    `same_person` is the cosine from which on two pictures show the same person.
    """

    @property
    def name(self) -> str: ...

    @property
    def same_person(self) -> float: ...

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Embeds as (pictures, width) unit vectors; a row is NaN where there is nobody to be seen."""
        ...


def similarities(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Computes the cosines of all pairs, (rows of one, rows of other); NaN where either was not measured."""
    return one @ other.T
