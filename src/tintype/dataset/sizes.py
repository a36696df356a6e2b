"""The sizes at which images are trained, and how many images a training takes.

A portrait is trained in its own shape, once for each area it is large enough for. Ideogram's trainings have one size
for all images: named, given by its sides, or found by itself. Images are cut at the centre and never enlarged. So one
small image, or one upright one among wide ones, shrinks the whole run, which other trainers do in silence; here the
report says which image it was. A size that some images cannot fill is refused before anything is trained, with their
names. Sizes are those of upright images, in nominal pixels: what the model is asked for. A miniature draws smaller and
scales by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tintype.catalog.ideogram_v4_trainer import AUTO, LEAST_SIDE, MOST_ASPECT, MOST_SIDE, SIDE_STEP, size_of
from tintype.count import some_of
from tintype.errors import InputError, TooFewFiles, TooManyFiles

STEP = 16  # nominal pixels; FLUX's and Ideogram's tokens are this wide (a miniature's are wider)
MULTI_RESOLUTION = (512, 768, 1024)  # sides of squares whose areas are trained
SINGLE_RESOLUTION = (1024,)
LONGEST_ASPECT = 4.0  # an image longer than this is cut to it
# A bucket may be smaller than it could be where its shape is nearer to the image's: shape weighs this much more.
_SHAPE_OVER_SIZE = 4.0


@dataclass(frozen=True, order=True)
class Bucket:
    """Names a size in nominal pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def buckets_of(size: tuple[int, int], area_sides: Sequence[int], step: int = STEP) -> tuple[Bucket, ...]:
    """Chooses one bucket for each area the image is large enough for; a small image has fewer.

    Sides are multiples of `step`. Never empty, and never larger than the image, unless it is smaller than one step.
    """
    width, height = min(size[0], size[1] * LONGEST_ASPECT), min(size[1], size[0] * LONGEST_ASPECT)
    scales = [min(1.0, side / (width * height) ** 0.5) for side in area_sides]
    found = dict.fromkeys(_nearest(width * scale, height * scale, step) for scale in scales)
    return tuple(Bucket(*sides) for sides in found)


def fit(image: Image.Image, bucket: Bucket) -> Image.Image:
    """Reduces the image to cover the bucket, and cuts it at the middle to its exact size."""
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


@dataclass(frozen=True)
class NamedSize:
    """Holds an image's name and its upright size in pixels."""

    name: str
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.name} ({self.width}x{self.height})"


@dataclass(frozen=True)
class TrainingSize:
    """Holds the one size of a training, and for `auto` which images limited it; None where the model did.

    `whole` is the largest crop that all images could give, where that was too large for `auto`.
    """

    width: int
    height: int
    narrowest: NamedSize | None = None
    lowest: NamedSize | None = None
    automatic: bool = False
    whole: TrainingSize | None = None

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    def bucket(self, step: int = SIDE_STEP) -> Bucket:
        """Gives the bucket of every image, smaller by less than one `step` where a real model's token is narrower."""
        width, height = (max(step, side // step * step) for side in (self.width, self.height))
        return Bucket(width, height)

    @property
    def why(self) -> str:
        """Says in a sentence why it is this size, for the log and the report."""
        if not self.automatic:
            return f"All pictures are trained at {self}, as asked for."
        if self.whole is not None:
            return (
                f"All pictures are trained at {self}: the largest crop that each can give, {self.whole}, reduced to "
                "the area that auto takes. A larger size may be named, as the resolution of ideogram/v4/trainer."
            )
        sentence = f"All pictures are trained at {self}, the largest crop that each can give without being enlarged"
        if self.narrowest is not None and self.narrowest == self.lowest:
            return f"{sentence}: the smallest is {self.narrowest}."
        limits = {"narrowest": self.narrowest, "lowest": self.lowest}
        said = ", ".join(f"the {which} is {image}" for which, image in limits.items() if image is not None)
        return f"{sentence}: {said}." if said else f"{sentence} and the model takes."


def largest_common_size(images: Sequence[NamedSize], most_pixels: int | None = None) -> TrainingSize:
    """Finds the largest size that every image (at least one) fills; of a larger one, its shape in `most_pixels`.

    Raises InputError for images too small for any.
    """
    narrowest = min(images, key=lambda image: image.width)
    lowest = min(images, key=lambda image: image.height)
    width, height = _whole_tokens(narrowest.width), _whole_tokens(lowest.height)
    if min(width, height) < LEAST_SIDE:
        small = [image for image in images if min(image.width, image.height) < LEAST_SIDE]
        raise InputError(
            f"The model needs at least {LEAST_SIDE} pixels a side; smaller are: {_listed(small)}.",
            remedy="Send larger ones, or leave them out; pictures are never enlarged.",
            ctx={"pictures": [image.name for image in small]},
        )
    if most_pixels is not None and (reduced := _reduced(narrowest.width, lowest.height, most_pixels)):
        return reduced
    width, height = min(width, height * MOST_ASPECT), min(height, width * MOST_ASPECT)
    return TrainingSize(
        width,
        height,
        narrowest if width == _whole_tokens(narrowest.width) and width < MOST_SIDE else None,
        lowest if height == _whole_tokens(lowest.height) and height < MOST_SIDE else None,
        automatic=True,
    )


def size_asked_for(
    resolution: str, images: Sequence[NamedSize], most_automatic_pixels: int | None = None
) -> TrainingSize:
    """Gives the size of a `resolution` other than `auto`; raises InputError if some image cannot fill it."""
    size = size_of(resolution)
    assert size is not None, "auto is no size"
    width, height = size
    small = [image for image in images if image.width < width or image.height < height]
    if small:
        sides = f"{width}x{height}"
        raise InputError(
            f"{len(small)} of {len(images)} pictures cannot fill "
            f"{sides if resolution == sides else f'{resolution} ({sides})'} without being enlarged: {_listed(small)}.",
            remedy=f"Send larger ones, leave them out, or ask for {_instead(images, most_automatic_pixels)}.",
            ctx={"pictures": [image.name for image in small]},
            given=resolution,
        )
    return TrainingSize(width, height)


def check_count(count: int, least: int, most: int) -> None:
    """Raises TooFewFiles or TooManyFiles unless `count` usable images are within the bounds."""
    if count < least:
        raise TooFewFiles(
            f"The archive holds too few usable pictures: {count}, where at least {least} are needed.",
            remedy=f"Send {least} to {most} pictures, as JPEG, PNG or WebP.",
            ctx={"min_count": least, "provided_count": count},
        )
    if count > most:
        raise TooManyFiles(
            f"The archive holds {count} pictures, and at most {most} are taken.",
            remedy="Send the best ones; 10 to 30 are plenty.",
            ctx={"max_count": most, "provided_count": count},
        )


def _reduced(width: int, height: int, most_pixels: int) -> TrainingSize | None:
    """The size of about this shape and so many pixels at most; None for a crop that has no more."""
    width, height = (side // SIDE_STEP * SIDE_STEP for side in (width, height))
    width, height = min(width, height * MOST_ASPECT), min(height, width * MOST_ASPECT)
    scale = max(LEAST_SIDE / min(width, height), math.sqrt(most_pixels / (width * height)))
    if scale >= 1:
        return None
    wide, high = (min(side, MOST_SIDE) for side in _nearest(width * scale, height * scale, SIDE_STEP))
    wide, high = min(wide, high * MOST_ASPECT), min(high, wide * MOST_ASPECT)
    return TrainingSize(wide, high, automatic=True, whole=TrainingSize(width, height))


def _whole_tokens(side: int) -> int:
    return min(side // SIDE_STEP * SIDE_STEP, MOST_SIDE)


def _listed(images: Sequence[NamedSize]) -> str:
    return some_of([str(image) for image in images], 20)


def _instead(images: Sequence[NamedSize], most_pixels: int | None) -> str:
    try:
        return f"{AUTO}, which would take {largest_common_size(images, most_pixels)}"
    except InputError:
        return "a smaller size"
