"""How near the camera seems: windows around a person, from the face alone to the whole body.

A model that sees one distance only learns that the person is always that near. A large photo therefore gives several
windows; a small one gives what it has. Windows keep the photo's own shape, lie inside it, and are never enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Framing = Literal["head", "bust", "half", "full"]

# Heights are in faces (brow to chin, as finders mark them; a head is about 1.3 of them, a person about 9.5).
_SPANS = {"head": 2.2, "bust": 4.0, "full": 10.5}  # what a window shows from top to bottom
_CENTRE = {"head": 0.5, "bust": 0.36, "full": 0.14}  # of the window's height: where the face's middle is
# Where the window ends below the chin decides what it is called.
_ENDS_ABOVE: tuple[tuple[float, Framing], ...] = ((1.0, "head"), (3.0, "bust"), (6.5, "half"))
# A window is worth keeping beside a tighter or wider one only if it shows this many times its area.
_DISTINCT = 1.8
# Pixels below which a window is not made tighter: the smallest training area.
LEAST_SIDE = 512


@dataclass(frozen=True)
class Box:
    """Bounds a rectangle in pixels; `right` and `bottom` are outside it."""

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

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def edges(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.right, self.bottom

    def within(self, outer: Box) -> Box:
        """Gives the same rectangle in the coordinates of `outer`, cut to it."""
        return Box(
            max(0, self.left - outer.left),
            max(0, self.top - outer.top),
            min(outer.width, self.right - outer.left),
            min(outer.height, self.bottom - outer.top),
        )

    def holds_middle_of(self, other: Box) -> bool:
        """Tells whether the middle of another rectangle lies inside."""
        x, y = (other.left + other.right) / 2, (other.top + other.bottom) / 2
        return self.left <= x < self.right and self.top <= y < self.bottom

    def scaled(self, x: float, y: float) -> Box:
        """Gives the same rectangle in an image that is `x` times as wide and `y` times as high."""
        return Box(round(self.left * x), round(self.top * y), round(self.right * x), round(self.bottom * y))


@dataclass(frozen=True)
class Window:
    """Names a part of a photo, and what it shows of the person (None: nobody knows)."""

    box: Box
    framing: Framing | None


def windows_around(face: Box, size: tuple[int, int]) -> tuple[Window, ...]:
    """Chooses the windows worth training, widest first; there is always one, and it may be the whole photo."""
    kept: list[Window] = []
    for name in ("full", "bust", "head"):
        box = window(face, size, _SPANS[name], _CENTRE[name])
        if kept and (min(box.size) < LEAST_SIDE or _area(kept[-1].box) < _DISTINCT * _area(box)):
            continue
        kept.append(Window(box, framing_of(face, box)))
    return tuple(kept)


def window(face: Box, size: tuple[int, int], span: float, centre: float) -> Box:
    """Places a window of the photo's own shape that spans so many face heights, inside the photo, around the face."""
    width, height = size
    least = min(LEAST_SIDE, width, height) / min(width, height)
    holds_face = max(face.width / width, face.height / height)
    scale = min(1.0, max(span * face.height / height, least, holds_face))
    wide, high = round(width * scale), round(height * scale)
    left = round((face.left + face.right) / 2 - wide / 2)
    top = round((face.top + face.bottom) / 2 - high * centre)
    # With the middle of the face so near the top a large face could be cut at the brow.
    top = min(top, face.top - (high - face.height) // 8)
    left = min(max(0, left), width - wide)
    top = min(max(0, top), height - high)
    return Box(left, top, left + wide, top + high)


def framing_of(face: Box, box: Box) -> Framing:
    """Tells what a window shows, by how far it reaches below the chin."""
    below = (box.bottom - face.bottom) / max(1, face.height)
    return next((framing for most, framing in _ENDS_ABOVE if below < most), "full")


def _area(box: Box) -> int:
    return box.width * box.height
