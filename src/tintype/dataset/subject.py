"""Finds the person in a photo and cuts to them, so that the model learns a face and not a holiday.

The finder is OpenCV's bundled cascade: no weights to fetch, a permissive licence, good on faces that look at the
camera. A crop keeps the photo's own shape where it can, never enlarges anything, and never gets so tight that shoulders
and hair are lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from tintype.dataset.photo import Photo

# A crop spans this many face heights, with the face's centre this far from the top.
SPAN = 3.2
FACE_HEIGHT_FROM_TOP = 0.42
# Pixels below which a crop is not made tighter: the smallest training area.
LEAST_SIDE = 512
_SEARCH_SIDE = 900  # pixels of the long side in which faces are looked for
_LEAST_FACE = 0.06  # of the short side; smaller ones are mostly false


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; `right` and `bottom` are outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def within(self, outer: Box) -> Box:
        """The same rectangle in the coordinates of `outer`, cut to it."""
        return Box(
            max(0, self.left - outer.left),
            max(0, self.top - outer.top),
            min(outer.width, self.right - outer.left),
            min(outer.height, self.bottom - outer.top),
        )


@dataclass(frozen=True)
class Subject:
    """Where the subject is: a face, or (given by the family, or nothing was found) the whole picture."""

    box: Box
    kind: Literal["face", "whole", "given"]
    faces: int = 0


Finder = Callable[[Image.Image], Subject]


@dataclass(frozen=True)
class Portrait:
    """A photo, cut or not, with its subject in the coordinates of what is left."""

    photo: Photo
    subject: Subject
    crop: Box | None = None


def whole(image: Image.Image, kind: Literal["whole", "given"] = "whole") -> Subject:
    """The whole picture as the subject."""
    return Subject(Box(0, 0, image.width, image.height), kind)


def find_face(image: Image.Image) -> Subject:
    """The largest face that looks at the camera; the whole picture where none is found."""
    import numpy as np

    shrink = min(1.0, _SEARCH_SIDE / max(image.size))
    grey = image.convert("L").resize((max(1, round(image.width * shrink)), max(1, round(image.height * shrink))))
    least = max(24, int(min(grey.size) * _LEAST_FACE))
    found = _cascade().detectMultiScale(np.asarray(grey), scaleFactor=1.1, minNeighbors=6, minSize=(least, least))
    if len(found) == 0:
        return whole(image)
    left, top, width, height = (int(edge) for edge in max(found, key=lambda face: face[2] * face[3]))
    box = Box(int(left / shrink), int(top / shrink), int((left + width) / shrink), int((top + height) / shrink))
    return Subject(box.within(Box(0, 0, image.width, image.height)), "face", faces=len(found))


@functools.cache
def _cascade() -> Any:
    import cv2

    cv2.setNumThreads(1)
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))


def locate(photo: Photo, find: Finder) -> Portrait:
    """The photo as it is, with its subject."""
    return Portrait(photo, find(photo.image))


def crop_to_subject(portrait: Portrait) -> Portrait:
    """Cut to the face and what belongs to it. A subject that is the whole picture, or fills it already, stays."""
    photo, subject = portrait.photo, portrait.subject
    if subject.kind != "face":
        return portrait
    crop = crop_around(subject.box, photo.image.size)
    edges = (crop.left, crop.top, crop.right, crop.bottom)
    if (crop.width, crop.height) == photo.image.size:
        return portrait
    cut = replace(
        photo, image=photo.image.crop(edges), alpha=photo.alpha.crop(edges) if photo.alpha is not None else None
    )
    return Portrait(cut, replace(subject, box=subject.box.within(crop)), crop)


def crop_around(face: Box, size: tuple[int, int]) -> Box:
    """A window of the picture's own aspect ratio around a face, inside the picture."""
    width, height = size
    short = min(width, height)
    wanted = max(SPAN * face.height, min(LEAST_SIDE, short))
    scale = min(1.0, wanted / short)
    crop_width, crop_height = round(width * scale), round(height * scale)
    left = round((face.left + face.right) / 2 - crop_width / 2)
    top = round((face.top + face.bottom) / 2 - crop_height * FACE_HEIGHT_FROM_TOP)
    left = min(max(0, left), width - crop_width)
    top = min(max(0, top), height - crop_height)
    return Box(left, top, left + crop_width, top + crop_height)
