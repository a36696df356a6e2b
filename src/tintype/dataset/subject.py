"""Where the person is in a photo, which windows of it are trained, and which pixels count, so that the model learns a
face and no holiday.

A base model's family decides how a subject is found: faces are looked for, but on a miniature not in drawings, whose
people fill the image. In a mask the subject counts fully and the background a tenth, so that walls are not learned. The
image's own transparency is the best mask; else an ellipse around the face that takes in hair and shoulders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageStat

from tintype.dataset.faces import find_faces
from tintype.dataset.framing import Box, Window, framing_of, windows_around

BACKGROUND_WEIGHT = 0.1
# The ellipse reaches this many face widths to each side, and face heights above and below the face's centre.
_SIDE, _ABOVE, _BELOW = 1.1, 1.1, 1.7
# A crop whose transparency leaves less than this of it visible has no subject there to weigh.
_LEAST_VISIBLE = 0.01
# Of the pixels off the commonest grey, how many have neighbours of their very own level: in Portrait World's drawings
# (384 pixels and more, PNG or JPEG) at least 0.52; in photos, also dark, enlarged or squeezed ones, at most 0.29.
_DRAWN = 0.35
_DRAWING_SIDE = 256  # pixels of the short side, at which that is measured

MaskSource = Literal["alpha", "face", "subject"]


@dataclass(frozen=True)
class Subject:
    """Says where the subject is: a face, or (given by the family, or nothing was found) the whole image."""

    box: Box
    kind: Literal["face", "whole", "given"]
    others: tuple[Box, ...] = ()  # faces of other people

    @property
    def faces(self) -> int:
        return len(self.others) + 1 if self.kind == "face" else 0

    def scaled(self, x: float, y: float) -> Subject:
        """Gives the same subject in an image that is `x` times as wide and `y` times as high."""
        return Subject(self.box.scaled(x, y), self.kind, tuple(other.scaled(x, y) for other in self.others))


#: Finds the subject of an upright RGB image; called from several threads at once.
SubjectFinder = Callable[[Image.Image], Subject]


def whole(image: Image.Image, kind: Literal["whole", "given"] = "whole") -> Subject:
    """Takes the whole image as the subject."""
    return Subject(Box(0, 0, image.width, image.height), kind)


def find_face(image: Image.Image) -> Subject:
    """Finds the largest and most central face; the whole image where there is none."""
    faces = find_faces(image)
    return Subject(faces[0], "face", tuple(faces[1:])) if faces else whole(image)


def is_drawing(image: Image.Image) -> bool:
    """Tells shapes in flat colours from a photo, which has noise or shades everywhere but on a plain background."""
    grey = np.asarray(image.convert("L").reduce(max(1, min(image.size) // _DRAWING_SIDE)))
    here, below, beside = grey[:-1, :-1], grey[1:, :-1], grey[:-1, 1:]
    figure = here != np.bincount(grey.ravel()).argmax()
    return bool(((here == below) & (here == beside))[figure].sum() >= _DRAWN * figure.sum())


def windows_of(subject: Subject, size: tuple[int, int], *, crop: bool, chosen: Box | None = None) -> tuple[Window, ...]:
    """Chooses what of a photo is trained, widest first: windows around a face, or the whole where there is none; or
    what a person has chosen, and nothing else."""
    frame = Box(0, 0, *size)
    if chosen is not None:
        shows_face = subject.kind == "face" and chosen.holds_middle_of(subject.box)
        return (Window(chosen, framing_of(subject.box, chosen) if shows_face else None),)
    if subject.kind != "face":
        return (Window(frame, None),)
    return windows_around(subject.box, size) if crop else (Window(frame, framing_of(subject.box, frame)),)


def mask_of(
    subject: Subject, part: Box, size: tuple[int, int], alpha: Image.Image | None = None
) -> tuple[Image.Image, MaskSource] | None:
    """Draws an "L" mask for a part of a photo that was reduced to `size`, white where the subject is.

    `alpha` is the transparency of that part, of that size. None where no mask can be made: every pixel weighs 1 there.
    """
    if alpha is not None and ImageStat.Stat(alpha).mean[0] >= 255 * _LEAST_VISIBLE:
        return alpha, "alpha"
    if subject.kind == "whole":
        return None
    left, top, right, bottom = person_around(subject.box) if subject.kind == "face" else subject.box.edges
    x, y = size[0] / part.width, size[1] / part.height
    mask = Image.new("L", size, 0)
    ellipse = ((left - part.left) * x, (top - part.top) * y, (right - part.left) * x, (bottom - part.top) * y)
    ImageDraw.Draw(mask).ellipse(ellipse, fill=255)
    softened = mask.filter(ImageFilter.GaussianBlur(max(size) / 64))
    return softened, "face" if subject.kind == "face" else "subject"


def person_around(face: Box) -> tuple[float, float, float, float]:
    """Gives left, top, right and bottom of a face with hair and shoulders."""
    x, y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
    return x - _SIDE * face.width, y - _ABOVE * face.height, x + _SIDE * face.width, y + _BELOW * face.height
