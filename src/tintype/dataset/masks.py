"""Says which pixels matter: the subject counts fully, the background a tenth, so that walls are not learned.

The picture's own transparency is the best mask; else an ellipse around the face that takes in hair and shoulders.
"""

from __future__ import annotations

from typing import Literal

from PIL import Image, ImageDraw, ImageFilter

from tintype.dataset.framing import Box
from tintype.dataset.subject import Subject

BACKGROUND_WEIGHT = 0.1
# The ellipse reaches this many face widths to each side, and face heights above and below the face's centre.
_SIDE, _ABOVE, _BELOW = 1.1, 1.1, 1.7
# A cut whose transparency leaves less than this of it visible has no subject there to weigh.
_LEAST_VISIBLE = 0.01

Source = Literal["alpha", "face", "subject"]


def mask_of(
    subject: Subject, part: Box, size: tuple[int, int], alpha: Image.Image | None = None
) -> tuple[Image.Image, Source] | None:
    """An "L" mask for the part of a photo that was cut and reduced to `size`, white where the subject is.

    `alpha` is the transparency of that part, of that size. None where no mask can be made: every pixel weighs 1 there.
    """
    if alpha is not None and _visible(alpha) >= _LEAST_VISIBLE:
        return alpha, "alpha"
    if subject.kind == "whole":
        return None
    edges = _grown(subject.box) if subject.kind == "face" else tuple(float(edge) for edge in subject.box.edges)
    x, y = size[0] / part.width, size[1] / part.height
    left, top, right, bottom = edges
    here = ((left - part.left) * x, (top - part.top) * y, (right - part.left) * x, (bottom - part.top) * y)
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse(here, fill=255)
    softened = mask.filter(ImageFilter.GaussianBlur(max(size) / 64))
    return softened, "face" if subject.kind == "face" else "subject"


def _visible(alpha: Image.Image) -> float:
    """The share of a mask that is white."""
    counts = alpha.histogram()
    return sum(level * count for level, count in enumerate(counts)) / (255 * sum(counts))


def _grown(face: Box) -> tuple[float, float, float, float]:
    x, y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
    return (
        x - _SIDE * face.width,
        y - _ABOVE * face.height,
        x + _SIDE * face.width,
        y + _BELOW * face.height,
    )
