"""Tells whose face is in photos, for the web process: a line of JSON in, a line out, as `python -m tintype.dataset`.

A process of its own again, because it holds torch and the network that knows faces, and only some ask for that.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import torch

from tintype.dataset.archive import Limits
from tintype.dataset.image import read_photo
from tintype.errors import InputError
from tintype.likeness.faces import LONG_SIDE, FaceIdentity
from tintype.likeness.held_out import strangers_among
from tintype.processes import answer_lines


@functools.cache
def _identity() -> FaceIdentity:
    return FaceIdentity()


def _embed(path: str, name: str) -> dict[str, Any]:
    """Embeds the face of a photo; None where there is none, or no photo."""
    try:
        photo = read_photo(Path(path), name, most_pixels=Limits().pixels)
    except InputError:
        return {"embedding": None}
    embedded = _identity().embed([photo.crop(at_least=(LONG_SIDE, LONG_SIDE))])[0]
    return {"embedding": None if embedded.isnan().any() else embedded.tolist()}


def _strangers(embeddings: list[list[float] | None]) -> dict[str, Any]:
    """Lists the numbers of those that are of somebody else than most."""
    known = [number for number, embedding in enumerate(embeddings) if embedding is not None]
    if not known:
        return {"strangers": []}
    embedded = torch.tensor([embeddings[number] for number in known])
    return {"strangers": [known[at] for at in strangers_among(embedded, FaceIdentity.same_person)]}


if __name__ == "__main__":
    os.nice(10)
    answer_lines({"embed": _embed, "strangers": _strangers})
