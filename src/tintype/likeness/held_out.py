"""Chooses the photos that are never trained on, because likeness to what was trained also rewards copying."""

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
    among = similarities(embedded, embedded).fill_diagonal_(torch.nan)
    typical = among.nanmean(dim=1)
    excluded = {number for pair in alike for number in pair}
    ranked = sorted(range(len(embedded)), key=lambda number: -float(typical[number].nan_to_num(-1.0)))
    chosen = [number for number in ranked if number not in excluded and not typical[number].isnan()]
    return sorted(chosen[:HELD_OUT])
