"""Looks at all photos together: which are typical enough to be held out, and which show somebody else."""

from __future__ import annotations

from collections.abc import Collection

import torch

from tintype.likeness.identity import similarities

HELD_OUT = 2
ENOUGH_PHOTOS = 8  # to spare some; with fewer, every photo is needed for training


def choose_held_out(embedded: torch.Tensor, alike: Collection[tuple[int, int]] = ()) -> list[int]:
    """Chooses the two most typical of the photos, of which no near-copy is trained; none of fewer than eight.

    `embedded` is (photos, width), `alike` lists pairs that look much alike. Typical is what is closest to the others.
    """
    if len(embedded) < ENOUGH_PHOTOS:
        return []
    among = _among(embedded)
    typical = among.nanmean(dim=1)
    excluded = {number for pair in alike for number in pair}
    ranked = sorted(range(len(embedded)), key=lambda number: -float(typical[number].nan_to_num(-1.0)))
    chosen = [number for number in ranked if number not in excluded and not typical[number].isnan()]
    return sorted(chosen[:HELD_OUT])


def strangers_among(embedded: torch.Tensor, same_person: float) -> list[int]:
    """Lists the photos that are the same person with less than half of the others, where most are of one person.

    Where no person is in most photos, nobody is the stranger.
    """
    known = [number for number in range(len(embedded)) if not embedded[number].isnan().any()]
    usual = _among(embedded).nanmedian(dim=1).values.nan_to_num(1.0)
    odd = [number for number in known if usual[number] < same_person]
    return odd if 2 * len(odd) < len(known) else []


def _among(embedded: torch.Tensor) -> torch.Tensor:
    """The cosines of each photo with each other one; NaN with itself."""
    return similarities(embedded, embedded).fill_diagonal_(torch.nan)
