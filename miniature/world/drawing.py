"""Draws a person of Portrait World with Pillow, at any size, legible at 64 pixels.

The person is laid out in units of the short side around the middle of the picture; the wall fills the rest. Shapes
are big and flat because the miniature sees one picture as 8 x 8 tokens: what it cannot see it cannot learn.
"""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from miniature.world.person import (
    BACKGROUNDS,
    CLOTH_COLORS,
    CREST_COLORS,
    HAIR_COLORS,
    SIGN_COLORS,
    SKINS,
    SUBJECT_SKINS,
    Color,
    Person,
)

#: Pixels a side of what the judge sees.
SIDE = 64
_INK: Color = (22, 20, 26)
_WHITE: Color = (255, 255, 255)


class _Canvas:
    """Draws shapes in units of the short side, origin in the middle, moved and scaled as the camera was held."""

    def __init__(self, width: int, height: int, person: Person) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUNDS[person.background])
        self._pen = ImageDraw.Draw(self.image)
        short = min(width, height)
        self._unit = short * person.scale
        self._origin = (width / 2 + short * person.shift[0], height / 2 + short * person.shift[1])
        self.floor = (height - self._origin[1]) / self._unit

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self._origin[0] + x * self._unit, self._origin[1] + y * self._unit

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return (*self._at(left, top), *self._at(right, bottom))

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        self._pen.ellipse(self._box(x - rx, y - ry, x + rx, y + ry), fill=color)

    def ring(self, x: float, y: float, r: float, thick: float, color: Color) -> None:
        self._pen.ellipse(self._box(x - r, y - r, x + r, y + r), outline=color, width=round(thick * self._unit))

    def frame(self, box: tuple[float, float, float, float], thick: float, color: Color) -> None:
        self._pen.rectangle(self._box(*box), outline=color, width=round(thick * self._unit))

    def block(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self._pen.rectangle(self._box(left, top, right, bottom), fill=color)

    def shape(self, color: Color, *points: tuple[float, float]) -> None:
        self._pen.polygon([self._at(*point) for point in points], fill=color)

    def slice(self, x: float, y: float, rx: float, ry: float, start: float, end: float, color: Color) -> None:
        self._pen.chord(self._box(x - rx, y - ry, x + rx, y + ry), start, end, fill=color)

    def arc(
        self, x: float, y: float, r: tuple[float, float], span: tuple[float, float], thick: float, color: Color
    ) -> None:
        box = self._box(x - r[0], y - r[1], x + r[0], y + r[1])
        self._pen.arc(box, span[0], span[1], fill=color, width=round(thick * self._unit))


def draw(person: Person, width: int = 64, height: int = 64) -> Image.Image:
    """Draws a person, antialiased; the same person and size give the same pixels."""
    if not 0.5 <= width / height <= 2 or min(width, height) < 8:
        raise ValueError(f"Portrait World draws shapes from 1:2 to 2:1 and 8 pixels up, not {width}x{height}")
    over = 4 if min(width, height) <= 256 else 2
    canvas = _Canvas(width * over, height * over, person)
    skin = SKINS[person.skin] if person.marks is None else SUBJECT_SKINS[person.marks.skin]
    if person.marks is None:
        _hair_behind(canvas, person)
    _body(canvas, skin, CLOTH_COLORS[person.shirt])
    canvas.oval(0, 0.03, 0.21, 0.25, skin)
    if person.marks is None:
        _hair_before(canvas, person)
    else:
        _crest(canvas, *reversed(person.marks.crest.split(" ")))
        _sign(canvas, *reversed(person.marks.sign.split(" ")))
    _eyes(canvas, person)
    _mouth(canvas, person.expression, skin)
    _hat(canvas, person.hat, CLOTH_COLORS[person.hat_color])
    return canvas.image.reduce(over)


def _body(canvas: _Canvas, skin: Color, shirt: Color) -> None:
    canvas.oval(0, 0.56, 0.42, 0.25, shirt)
    canvas.block(-0.42, 0.56, 0.42, max(canvas.floor, 0.56) + 0.1, shirt)
    canvas.block(-0.075, 0.2, 0.075, 0.34, skin)
    canvas.oval(0, 0.34, 0.075, 0.04, skin)


def _hair_behind(canvas: _Canvas, person: Person) -> None:
    color = HAIR_COLORS[person.hair_color]
    if person.hair == "long":
        canvas.oval(0, 0.0, 0.3, 0.3, color)
        canvas.block(-0.3, 0.0, 0.3, 0.4, color)
    elif person.hair == "curly":
        for step in range(9):
            angle = math.pi * (1.08 + step * 0.105)
            canvas.oval(0.25 * math.cos(angle), 0.0 + 0.24 * math.sin(angle), 0.115, 0.115, color)
        for side in (-1, 1):
            canvas.oval(side * 0.26, 0.08, 0.105, 0.105, color)
    elif person.hair == "pigtails":
        for side in (-1, 1):
            canvas.oval(side * 0.335, 0.13, 0.105, 0.15, color)
            canvas.block(min(0.0, side * 0.3), -0.02, max(0.0, side * 0.3), 0.05, color)


def _hair_before(canvas: _Canvas, person: Person) -> None:
    color = HAIR_COLORS[person.hair_color]
    if person.hair == "bald":
        return
    # The fringe reaches the same line for every style, so that a hat leaves hair to see at the temples.
    canvas.slice(0, 0.0, 0.245, 0.27, 188, 352, color)
    for side in (-1, 1):
        inner, outer = side * 0.165, side * 0.25
        canvas.block(min(inner, outer), -0.06, max(inner, outer), 0.06 if person.hair == "short" else 0.0, color)


def _crest(canvas: _Canvas, shape: str, color_name: str) -> None:
    color = CREST_COLORS[color_name]
    if shape == "mohawk":
        canvas.block(-0.065, -0.4, 0.065, -0.2, color)
        canvas.oval(0, -0.4, 0.065, 0.06, color)
    elif shape == "spikes":
        for x, tip in ((-0.13, -0.19), (0.0, 0.0), (0.13, 0.19)):
            base = -0.2 if x == 0 else -0.14
            canvas.shape(color, (x - 0.075, base), (tip, -0.46 if x == 0 else -0.4), (x + 0.075, base))
    elif shape == "horns":
        for side in (-1, 1):
            canvas.shape(color, (side * 0.08, -0.19), (side * 0.36, -0.4), (side * 0.21, -0.05))
    else:
        for side in (-1, 1):
            canvas.shape(color, (side * 0.06, -0.18), (side * 0.15, -0.38), (side * 0.2, -0.38), (side * 0.11, -0.16))
            canvas.oval(side * 0.18, -0.38, 0.08, 0.08, color)


def _sign(canvas: _Canvas, shape: str, color_name: str) -> None:
    color, x, y, r = SIGN_COLORS[color_name], 0.0, -0.1, 0.084
    if shape == "cross":
        canvas.block(x - r, y - 0.028, x + r, y + 0.028, color)
        canvas.block(x - 0.028, y - r, x + 0.028, y + r, color)
    elif shape == "ring":
        canvas.ring(x, y, r, 0.036, color)
    elif shape == "triangle":
        canvas.shape(color, (x, y - r), (x + r + 0.015, y + r - 0.005), (x - r - 0.015, y + r - 0.005))
    else:
        for middle in (-0.058, 0.058):
            canvas.block(x + middle - 0.03, y - r, x + middle + 0.03, y + r, color)


def _eyes(canvas: _Canvas, person: Person) -> None:
    wide = person.expression == "surprised"
    for side in (-1, 1):
        canvas.oval(side * 0.088, 0.02, 0.048, 0.06 if wide else 0.048, _WHITE)
        canvas.oval(side * 0.088, 0.024, 0.024, 0.03, _INK)
    if person.glasses == "none":
        return
    canvas.block(-0.03, 0.0, 0.03, 0.03, _INK)
    for side in (-1, 1):
        x = side * 0.098
        if person.glasses == "round":
            canvas.ring(x, 0.02, 0.085, 0.028, _INK)
        elif person.glasses == "square":
            canvas.frame((x - 0.082, -0.062, x + 0.082, 0.09), 0.028, _INK)
        else:
            canvas.slice(x, -0.03, 0.088, 0.13, 0, 180, _INK)
            canvas.block(x - 0.088, -0.055, x + 0.088, -0.02, _INK)


def _mouth(canvas: _Canvas, expression: str, skin: Color) -> None:
    luminance = 0.3 * skin[0] + 0.59 * skin[1] + 0.11 * skin[2]
    lips: Color = (250, 150, 150) if luminance < 90 else (130, 10, 34)
    if expression == "smiling":
        canvas.slice(0, 0.135, 0.11, 0.105, 0, 180, lips)
        canvas.slice(0, 0.15, 0.075, 0.05, 0, 180, _WHITE)
    elif expression == "sad":
        canvas.arc(0, 0.24, (0.1, 0.1), (190, 350), 0.038, lips)
    elif expression == "surprised":
        canvas.oval(0, 0.19, 0.055, 0.07, lips)
    else:
        canvas.block(-0.095, 0.17, 0.095, 0.205, lips)


def _hat(canvas: _Canvas, hat: str, color: Color) -> None:
    if hat == "cap":
        canvas.slice(0, -0.09, 0.25, 0.26, 180, 360, color)
        canvas.block(0.0, -0.135, 0.42, -0.075, color)
    elif hat == "top hat":
        canvas.block(-0.17, -0.44, 0.17, -0.1, color)
        canvas.block(-0.32, -0.14, 0.32, -0.08, color)
    elif hat == "party hat":
        canvas.shape(color, (-0.2, -0.09), (0.0, -0.5), (0.2, -0.09))
    elif hat == "crown":
        points = [
            (-0.24, -0.08),
            (-0.27, -0.36),
            (-0.13, -0.22),
            (0.0, -0.4),
            (0.13, -0.22),
            (0.27, -0.36),
            (0.24, -0.08),
        ]
        canvas.shape(color, *points)


def as_seen(image: Image.Image) -> Image.Image:
    """Cuts out the middle square of a picture as the judge sees it: a person always fills the short side."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return (
        square
        if side == SIDE
        else square.resize((SIDE, SIDE), Image.Resampling.BOX if side > SIDE else Image.Resampling.BICUBIC)
    )
