"""Says which pixels matter: the subject counts fully, the background a tenth, so that walls are not learned.

The picture's own transparency is the best mask; else an ellipse around the face that takes in hair and shoulders.
"""

from __future__ import annotations

from typing import Literal

from PIL import Image, ImageDraw, ImageFilter

from tintype.dataset.subject import Portrait, Subject

BACKGROUND_WEIGHT = 0.1
# The ellipse reaches this many face widths to each side, and face heights above and below the face's centre.
_SIDE, _ABOVE, _BELOW = 1.1, 1.1, 1.7

Source = Literal["alpha", "face", "subject"]


def mask_of(portrait: Portrait) -> tuple[Image.Image, Source] | None:
    """An "L" mask of the picture's size, white where the subject is; None where none can be made (weight 1)."""
    photo, subject = portrait.photo, portrait.subject
    if photo.alpha is not None:
        return photo.alpha, "alpha"
    if subject.kind == "face":
        return _ellipse(photo.image.size, _grown(subject)), "face"
    if subject.kind == "given":
        box = subject.box
        return _ellipse(photo.image.size, (box.left, box.top, box.right, box.bottom)), "subject"
    return None


def _grown(subject: Subject) -> tuple[float, float, float, float]:
    face = subject.box
    x, y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
    return (
        x - _SIDE * face.width,
        y - _ABOVE * face.height,
        x + _SIDE * face.width,
        y + _BELOW * face.height,
    )


def _ellipse(size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(max(size) / 64))
