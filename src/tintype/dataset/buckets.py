"""Chooses the sizes at which a picture is trained: its own shape, at most its own size, sides the model can take.

Sizes are nominal pixels: what the model is asked for. A miniature draws smaller and scales by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

STEP = 16  # nominal pixels; FLUX's and Ideogram's tokens are this wide (a miniature's are wider)
MULTI_RESOLUTION = (512, 768, 1024)  # sides of squares whose areas are trained
SINGLE_RESOLUTION = (1024,)
LONGEST_ASPECT = 4.0  # a picture longer than this is cut to it
# A bucket may be smaller than it could be where its shape is nearer to the picture's: shape weighs this much more.
_SHAPE_OVER_SIZE = 4.0


@dataclass(frozen=True, order=True)
class Bucket:
    """A size in nominal pixels, and the side of the square it was made for."""

    width: int
    height: int
    area_side: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def buckets_of(size: tuple[int, int], area_sides: tuple[int, ...], step: int = STEP) -> list[Bucket]:
    """One bucket for each area the picture is large enough for; a small picture has fewer.

    Sides are multiples of `step`. Never empty, and never larger than the picture, unless it is smaller than one step.
    """
    width, height = _bounded(size)
    found: dict[tuple[int, int], Bucket] = {}
    for side in area_sides:
        scale = min(1.0, side / (width * height) ** 0.5)
        sides = _nearest(width * scale, height * scale, step)
        found.setdefault(sides, Bucket(*sides, side))
    return list(found.values())


def fit(image: Image.Image, bucket: Bucket) -> Image.Image:
    """The picture reduced to cover the bucket, and cut at the middle to its exact size."""
    scale = max(bucket.width / image.width, bucket.height / image.height)
    width, height = bucket.width / scale, bucket.height / scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (max(0.0, left), max(0.0, top), min(float(image.width), left + width), min(float(image.height), top + height))
    whole = box == (0.0, 0.0, image.width, image.height)
    if whole and image.size == (bucket.width, bucket.height):
        return image
    return image.resize((bucket.width, bucket.height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _nearest(width: float, height: float, step: int) -> tuple[int, int]:
    """The multiples of `step` within width and height that are nearest in shape, then in size."""

    def off(sides: tuple[int, int]) -> float:
        shape = abs(math.log(sides[0] / sides[1] * height / width))
        return _SHAPE_OVER_SIZE * shape + math.log(width * height / (sides[0] * sides[1]))

    return min(((w, h) for w in _below(width, step) for h in _below(height, step)), key=off)


def _below(side: float, step: int) -> tuple[int, ...]:
    # The tiny amount keeps 1024.0 / 16 from becoming 63 through rounding of the scale.
    largest = max(step, int((side + 1e-6) // step) * step)
    return (largest, largest - step) if largest > step else (largest,)


def _bounded(size: tuple[int, int]) -> tuple[float, float]:
    width, height = size
    return min(width, height * LONGEST_ASPECT), min(height, width * LONGEST_ASPECT)
