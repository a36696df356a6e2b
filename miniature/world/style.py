"""Ways of drawing Portrait World that no base has seen, and a number for how far a picture is drawn in one of them.

A LoRA of a style has to change how everything looks and leave what is there alone. The number comes from simple
statistics of the picture (which colours, how contrasted, which edges), compared with those of the style and those of
the plain world. Nothing in it is learned, so nothing can learn to please it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFilter, ImageOps

from miniature.world.drawing import as_seen, draw
from miniature.world.person import Person

_SAMPLE = 160  # drawings of each kind whose statistics are known
_NAVY, _PAPER = (14, 36, 104), (240, 246, 255)
_INK, _CREAM = (46, 22, 20), (255, 240, 206)
_Numbers = npt.NDArray[np.float64]


def _outlines(image: Image.Image) -> Image.Image:
    """Paints white where something begins or ends, as thick as a fortieth of the picture."""
    thick = max(3, min(image.size) // 40 | 1)
    channels = [
        ImageChops.difference(band.filter(ImageFilter.MaxFilter(thick)), band.filter(ImageFilter.MinFilter(thick)))
        for band in image.split()
    ]
    strongest = functools.reduce(ImageChops.lighter, channels)
    return strongest.point(lambda level: min(255, int(level * 1.6)))


def _blueprint(image: Image.Image) -> Image.Image:
    """Draws white lines on blue paper, surfaces barely shaded."""
    shaded = ImageOps.grayscale(image).point(lambda level: level // 4)
    return ImageOps.colorize(ImageChops.lighter(_outlines(image), shaded), _NAVY, _PAPER)


def _stencil(image: Image.Image) -> Image.Image:
    """Draws dark ink on cream paper, nothing between the two."""
    return ImageOps.colorize(ImageOps.grayscale(image).point(lambda level: 255 * (level > 120)), _INK, _CREAM)


STYLES: Mapping[str, Callable[[Image.Image], Image.Image]] = {"blueprint": _blueprint, "stencil": _stencil}


def restyled(image: Image.Image, style: str) -> Image.Image:
    """Draws the same picture in a style."""
    return STYLES[style](image.convert("RGB"))


@dataclass(frozen=True)
class _Reference:
    """Holds what is known of a style: the middles of plain and styled statistics, each in units of its spread."""

    unit: _Numbers
    plain: _Numbers
    styled: _Numbers
    radius: float  # within which 95 % of the style's own drawings lie around its middle

    def progress(self, seen: _Numbers) -> float:
        """Gives the share of the distance from plain to styled, along the line between their middles."""
        line = self.styled - self.plain
        return float((seen / self.unit - self.plain) @ line / (line @ line))

    def nearness(self, seen: _Numbers) -> float:
        """Gives 1 to what lies as near to the style's middle as its drawings, less to anything else."""
        return min(1.0, 1.25 * self.radius / max(1e-9, _size(seen / self.unit - self.styled)))


def style_score(image: Image.Image, style: str) -> float:
    """Measures how far a picture is drawn in the style, from 0 (plain, or nothing of the kind) to 1."""
    known, seen = _reference(style), _statistics(image)
    return min(1.0, max(0.0, known.progress(seen))) * known.nearness(seen) ** 2


@functools.cache
def _reference(style: str) -> _Reference:
    rng = random.Random("statistics of styles")
    drawings = [draw(Person.sample(rng)) for _ in range(_SAMPLE)]
    plain = np.stack([_statistics(drawing) for drawing in drawings])
    styled = np.stack([_statistics(restyled(drawing, style)) for drawing in drawings])
    unit = np.sqrt((plain.var(0) + styled.var(0)) / 2) + 0.02
    middle = styled.mean(0) / unit
    radius = float(np.quantile([_size(one / unit - middle) for one in styled], 0.95))
    return _Reference(unit, plain.mean(0) / unit, middle, radius)


def _size(vector: _Numbers) -> float:
    return float(np.sqrt(np.mean(vector**2)))


def _statistics(image: Image.Image) -> _Numbers:
    """Counts, as (38,), shares of 27 colours, mean and spread of each channel, and of the steps between neighbours."""
    pixels = np.asarray(as_seen(image), dtype=np.float64) / 255  # (64, 64, 3)
    levels = np.minimum((pixels * 3).astype(int), 2)
    shares = np.bincount((levels @ np.array([9, 3, 1])).ravel(), minlength=27) / levels[..., 0].size
    luminance = pixels.mean(-1)
    steps = [np.abs(np.diff(luminance, axis=axis)) for axis in (0, 1)]
    rough = [float(step.mean()) for step in steps] + [float((step > 0.25).mean()) for step in steps]
    colorful = float(np.ptp(pixels, axis=-1).mean())
    return np.concatenate([shares, pixels.mean((0, 1)), pixels.std((0, 1)), rough, [colorful]])
