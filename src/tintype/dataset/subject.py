"""Where the person is in a photo, and which windows of it are trained, so that the model learns a face and no holiday.

A base model's family decides how a subject is found: real ones look for faces, a miniature knows that its cartoon
people fill the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from tintype.dataset.faces import find_faces
from tintype.dataset.framing import Box, Window, framing_of, windows_around


@dataclass(frozen=True)
class Subject:
    """Where the subject is: a face, or (given by the family, or nothing was found) the whole picture."""

    box: Box
    kind: Literal["face", "whole", "given"]
    others: tuple[Box, ...] = ()  # faces of other people

    @property
    def faces(self) -> int:
        return len(self.others) + 1 if self.kind == "face" else 0

    def scaled(self, x: float, y: float) -> Subject:
        """The same subject in a picture that is `x` times as wide and `y` times as high."""
        return Subject(self.box.scaled(x, y), self.kind, tuple(other.scaled(x, y) for other in self.others))


Finder = Callable[[Image.Image], Subject]
"""Finds the subject of an upright RGB picture. Called from several threads at once."""


def whole(image: Image.Image, kind: Literal["whole", "given"] = "whole") -> Subject:
    """The whole picture as the subject."""
    return Subject(Box(0, 0, image.width, image.height), kind)


def find_face(image: Image.Image) -> Subject:
    """The largest and most central face; the whole picture where none is found."""
    faces = find_faces(image)
    return Subject(faces[0], "face", tuple(faces[1:])) if faces else whole(image)


def windows_of(subject: Subject, size: tuple[int, int], *, crop: bool) -> tuple[Window, ...]:
    """What of a photo is trained, widest first: its windows around a face, or the whole photo where there is none."""
    frame = Box(0, 0, *size)
    if subject.kind != "face":
        return (Window(frame, None),)
    return windows_around(subject.box, size) if crop else (Window(frame, framing_of(subject.box, frame)),)
