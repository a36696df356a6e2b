"""Tells copies from photos: a shot that was sent twice would count twice, and hides how few photos there are.

The same shot (sent again smaller, or saved again) is left out, and the better copy stays. Photos that merely look
alike, as in a burst, all stay: they differ in what matters most, the face; the report names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from tintype.dataset.prepare import ImageQuality

# Mean and largest difference between two signatures (levels of 255). Saving again as a JPEG of middling quality, or at
# a quarter of the size, stays below both; a smile moves a few places by far more than the largest.
_SAME_MEAN, _SAME_MOST = 2.5, 22
# A camera that moved by a hundredth of the image between two shots.
_ALIKE_MEAN, _ALIKE_BITS = 20.0, 8
_MOST_BITS = 12  # of 64 that may differ at all
_SAME_SHAPE = 0.03  # relative difference of aspect ratios


@dataclass(frozen=True)
class Likeness:
    """Maps images to leave out to those that stay for them (`copies`), and lists pairs that stay (`alike`)."""

    copies: dict[int, int] = field(default_factory=dict)
    alike: list[tuple[int, int]] = field(default_factory=list)


def compare(sizes: Sequence[tuple[int, int]], qualities: Sequence[ImageQuality]) -> Likeness:
    """Finds copies and look-alikes among all images; larger and sharper ones stay."""
    found = Likeness()
    if not sizes:
        return found
    signatures = np.stack([quality.signature for quality in qualities]).astype(np.int16)
    hashes = np.array([_hash(quality) for quality in qualities], dtype=np.uint64)
    shapes = np.array([width / height for width, height in sizes])

    def worth(number: int) -> tuple[int, float]:
        return sizes[number][0] * sizes[number][1], qualities[number].sharpness

    kept: list[int] = []
    for here in sorted(range(len(sizes)), key=worth, reverse=True):
        # Within this many bits of each other, or it cannot be the same shot; computing pixels for all is slow.
        bits = np.bitwise_count(hashes[kept] ^ hashes[here]) if kept else np.zeros(0, np.uint8)
        near = [kept[n] for n in np.flatnonzero(bits <= _MOST_BITS)]
        off = np.abs(signatures[near] - signatures[here]) if near else np.zeros((0, 1, 1, 1), np.int16)
        mean, most = off.mean(axis=(1, 2, 3)), off.max(axis=(1, 2, 3), initial=0)
        same_shape = np.abs(shapes[near] / shapes[here] - 1) < _SAME_SHAPE
        copies = np.flatnonzero((mean <= _SAME_MEAN) & (most <= _SAME_MOST) & same_shape)
        if len(copies):
            found.copies[here] = near[int(copies[0])]
            continue
        close = np.bitwise_count(hashes[near] ^ hashes[here]) <= _ALIKE_BITS
        found.alike.extend((near[int(n)], here) for n in np.flatnonzero((mean <= _ALIKE_MEAN) & same_shape & close))
        kept.append(here)
    return found


def _hash(quality: ImageQuality) -> int:
    """Whether each of 8x8 places is brighter than its neighbour: 64 bits that survive brightness and compression."""
    grey = Image.fromarray(quality.signature).convert("L").resize((9, 8), Image.Resampling.BOX)
    levels: npt.NDArray[np.int16] = np.asarray(grey).astype(np.int16)
    brighter = (levels[:, 1:] > levels[:, :-1] + 1).ravel()
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")
