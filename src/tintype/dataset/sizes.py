"""The one size at which all pictures of an Ideogram training are cut: named, given by its sides, or found by itself.

Pictures are cut at the centre and never enlarged. So one small picture, or one upright one among wide ones, shrinks the
whole run, which other trainers do in silence; here the report says which picture it was. A size that some pictures
cannot fill is refused before anything is trained, with their names. Sizes are those of upright pictures, in nominal
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tintype.catalog.ideogram_v4_trainer import AUTO, LEAST_SIDE, MOST_ASPECT, MOST_SIDE, SIDE_STEP, size_of
from tintype.dataset.buckets import Bucket
from tintype.dataset.dataset import Dataset
from tintype.dataset.report import named
from tintype.errors import InputError

RESOLUTION = ("body", "resolution")
PICTURES = ("body", "images_data_url")
#: The `area_sides` to open a dataset with whose one size is chosen afterwards: with them a picture of any shape that a
#: training takes keeps at least `MOST_SIDE` pixels a side on disk, or all it has.
UNDECIDED = (3 * MOST_SIDE,)


@dataclass(frozen=True)
class Measured:
    """A picture's name and its upright size in pixels."""

    name: str
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.name} ({self.width}x{self.height})"


@dataclass(frozen=True)
class TrainingSize:
    """The size, and for `auto` the pictures that kept it from being larger; None where the model's own limit did."""

    width: int
    height: int
    narrowest: Measured | None = None
    lowest: Measured | None = None
    automatic: bool = False

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def why(self) -> str:
        """A sentence for the log and the report."""
        if not self.automatic:
            return f"All pictures are trained at {self}, as asked for."
        said = f"All pictures are trained at {self}, the largest crop that each can give without being enlarged"
        if self.narrowest is not None and self.narrowest == self.lowest:
            return f"{said}: the smallest is {self.narrowest}."
        limits = []
        if self.narrowest is not None:
            limits.append(f"the narrowest is {self.narrowest}")
        if self.lowest is not None:
            limits.append(f"the lowest is {self.lowest}")
        return f"{said}: {', '.join(limits)}." if limits else f"{said} and the model takes."


def training_size(resolution: str, pictures: Sequence[Measured]) -> TrainingSize:
    """The size at which `pictures` (at least one) are trained, for a `resolution` as the endpoint takes it.

    Raises InputError: at `resolution` for a size that some pictures cannot fill, at `images_data_url` where they are
    too small for any.
    """
    size = size_of(resolution)
    if size is None:
        return _largest(pictures)
    width, height = size
    small = [picture for picture in pictures if picture.width < width or picture.height < height]
    if small:
        raise InputError(
            f"{len(small)} of {len(pictures)} pictures cannot fill {_called(resolution, size)} without being enlarged: "
            f"{named([str(picture) for picture in small], 20)}.",
            remedy=f"Send larger ones, leave them out, or ask for {_instead(pictures)}.",
            loc=RESOLUTION,
            ctx={"pictures": [picture.name for picture in small]},
            given=resolution,
        )
    return TrainingSize(width, height)


def at_one_size(dataset: Dataset, resolution: str, step: int = SIDE_STEP) -> tuple[Dataset, TrainingSize]:
    """The dataset, opened with UNDECIDED and without `subject_crop`, with every picture at the one size.

    `step` is the base's `size_step`: where its tokens are wider than a real model's, what is trained is smaller by less
    than one. The report's pictures are changed as well. Raises InputError as `training_size` does.
    """
    report = dataset.report
    size = training_size(resolution, [Measured(kept.name, kept.width, kept.height) for kept in report.kept])
    width, height = (max(step, side // step * step) for side in (size.width, size.height))
    bucket = Bucket(width, height, round((width * height) ** 0.5))
    for kept in report.kept:
        for cut in kept.trained:
            cut.buckets = [str(bucket)]
    examples = [replace(example, buckets=(bucket,)) for example in dataset.examples]
    return Dataset(examples, report), size


def _largest(pictures: Sequence[Measured]) -> TrainingSize:
    narrowest = min(pictures, key=lambda picture: picture.width)
    lowest = min(pictures, key=lambda picture: picture.height)
    width, height = _whole_tokens(narrowest.width), _whole_tokens(lowest.height)
    if min(width, height) < LEAST_SIDE:
        small = [picture for picture in pictures if min(picture.width, picture.height) < LEAST_SIDE]
        raise InputError(
            f"The model needs at least {LEAST_SIDE} pixels a side; smaller are: "
            f"{named([str(picture) for picture in small], 20)}.",
            remedy="Send larger ones, or leave them out; pictures are never enlarged.",
            loc=PICTURES,
            ctx={"pictures": [picture.name for picture in small]},
        )
    width, height = min(width, height * MOST_ASPECT), min(height, width * MOST_ASPECT)
    return TrainingSize(
        width,
        height,
        narrowest if width == _whole_tokens(narrowest.width) and width < MOST_SIDE else None,
        lowest if height == _whole_tokens(lowest.height) and height < MOST_SIDE else None,
        automatic=True,
    )


def _whole_tokens(side: int) -> int:
    return min(side // SIDE_STEP * SIDE_STEP, MOST_SIDE)


def _called(resolution: str, size: tuple[int, int]) -> str:
    sides = f"{size[0]}x{size[1]}"
    return sides if resolution == sides else f"{resolution} ({sides})"


def _instead(pictures: Sequence[Measured]) -> str:
    try:
        return f"{AUTO}, which would take {_largest(pictures)}"
    except InputError:
        return "a smaller size"
