"""Measures what a person would see at a glance: too dark, too bright, blurred, empty; and keeps the picture in little.

These are findings, not verdicts: a good likeness may hide in a bad photo, so they are said and the photo is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tintype.dataset.framing import Box

Levels = npt.NDArray[np.uint8]

SIGNATURE_SIDE = 32  # pixels of the little picture by which copies are known
_TILE = 48  # pixels
_SHARPEST = 0.1  # the share of tiles that is looked at: a blurred background is no fault
# Second over first derivatives: about 0.4 in sharp photos, 0.16 after a Gaussian blur of two pixels, at any contrast.
_BLURRED = 0.17
_EMPTY = 4.0  # standard deviation of grey levels: below it there is nothing to see
_DARK, _BRIGHT = 40.0, 225.0  # mean grey level of the face
_DARK_WHOLE, _BRIGHT_WHOLE = 28.0, 242.0  # and of a whole picture, which may well stand on black or white
_LEAST_REGION = 64  # pixels; a smaller face tells nothing about sharpness


@dataclass(frozen=True)
class Look:
    """What was measured about one picture. `signature` is (32, 32, 3), the picture in little without its shape."""

    sharpness: float
    brightness: float
    contrast: float
    signature: Levels
    face: bool

    def findings(self) -> list[str]:
        """What speaks against the picture, each in a few words."""
        if self.contrast < _EMPTY:
            return ["hardly anything is to be seen in it"]
        found = []
        dark, bright = (_DARK, _BRIGHT) if self.face else (_DARK_WHOLE, _BRIGHT_WHOLE)
        where = "the face is " if self.face else ""
        if self.brightness < dark:
            found.append(f"{where}under-exposed (mean level {self.brightness:.0f} of 255)")
        if self.brightness > bright:
            found.append(f"{where}over-exposed (mean level {self.brightness:.0f} of 255)")
        if self.sharpness < _BLURRED:
            found.append(f"{where}blurred")
        return found


def look_at(image: Image.Image, face: Box | None) -> Look:
    """Measures an RGB picture of about the size it is trained at; `face` is in its pixels."""
    grey = np.asarray(image.convert("L"))
    region = grey[face.top : face.bottom, face.left : face.right] if face else grey
    if region.size == 0:
        region, face = grey, None
    sharp_in = region if min(region.shape) >= _LEAST_REGION else grey
    little = image.reduce(max(1, min(image.size) // (4 * SIGNATURE_SIDE)))
    signature = np.asarray(little.resize((SIGNATURE_SIDE, SIGNATURE_SIDE), Image.Resampling.BOX))
    contrast = float(np.asarray(little.convert("L")).std())
    return Look(sharpness(sharp_in), float(region.mean()), contrast, signature, face is not None)


def sharpness(grey: Levels) -> float:
    """How fine the finest detail is, whatever its contrast: see `_BLURRED` for what the numbers mean."""
    calm = cv2.GaussianBlur(grey, (3, 3), 0)  # single noisy pixels are no detail
    curved = np.abs(cv2.Laplacian(calm, cv2.CV_16S))
    steep = np.abs(cv2.Sobel(calm, cv2.CV_16S, 1, 0, ksize=1)) + np.abs(cv2.Sobel(calm, cv2.CV_16S, 0, 1, ksize=1))
    tiles = (max(1, grey.shape[1] // _TILE), max(1, grey.shape[0] // _TILE))
    curves, slopes = (
        cv2.resize(values.astype(np.float32), tiles, interpolation=cv2.INTER_AREA).ravel() for values in (curved, steep)
    )
    richest = np.argsort(slopes)[-max(1, int(len(slopes) * _SHARPEST)) :]
    return float(curves[richest].mean() / (slopes[richest].mean() + 0.5))
