"""Decodes a JPEG and listens to what its decoder says of damage.

A JPEG has no checksums, but a decoder that loses its way notices: codes that mean nothing, data that ends too early or
goes on behind the last pixel. Pillow's passes over all of that, and below the damage the photo is grey or shifted.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import simplejpeg
from PIL import Image

_LAYOUTS = {"RGB": "RGBX", "L": "GRAY"}
# Some cameras leave a few bytes behind the last pixel; other remarks are not about pixels.
_DAMAGE = re.compile(r"Corrupt JPEG data: (premature end|bad|found marker|(6[4-9]|[7-9]\d|\d{3,}) extraneous)")


def decoded_jpeg(path: Path, mode: str, least: tuple[int, int]) -> Image.Image | None:
    """Decodes a JPEG of a Pillow mode, in the smallest size that this comes by at no cost and is not below `least`.

    The result is RGBX, as Pillow has RGB in memory, or L. None where this decoder does not take it, or remarks
    something harmless. Raises OSError for damage.
    """
    if mode not in _LAYOUTS:
        return None
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            pixels = simplejpeg.decode_jpeg(content, _LAYOUTS[mode], min_width=least[0], min_height=least[1])
    except ValueError as problem:
        if _DAMAGE.match(str(problem)):
            raise OSError(str(problem)) from None
        return None
    layout = "L" if mode == "L" else "RGBX"
    return Image.frombuffer(layout, pixels.shape[1::-1], pixels, "raw", layout, 0, 1)
