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
_DAMAGE = re.compile(r"Corrupt JPEG data: (premature end|bad|found marker|(\d+) extraneous)")
_LEFT_BEHIND = 64  # bytes that some cameras leave behind the last pixel; of zeros others leave any number


def decoded_jpeg(path: Path, mode: str, least: tuple[int, int]) -> Image.Image | None:
    """Decodes a JPEG of a Pillow mode, as small as its decoder can while it covers `least`.

    The result is RGBX, as Pillow has RGB in memory, or L. None where this decoder does not take it, or remarks
    something harmless. Raises OSError for damage.
    """
    if mode not in _LAYOUTS:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            pixels = simplejpeg.decode_jpeg(content, _LAYOUTS[mode], min_width=least[0], min_height=least[1])
        except ValueError as problem:
            found = _DAMAGE.match(str(problem))
            if found is None or (found[2] and _is_harmless(content, int(found[2]))):
                return None
            raise OSError(str(problem)) from None
    layout = "L" if mode == "L" else "RGBX"
    return Image.frombuffer(layout, pixels.shape[1::-1], pixels, "raw", layout, 0, 1)


def _is_harmless(content: mmap.mmap, extraneous: int) -> bool:
    end = content.rfind(b"\xff\xd9")
    return extraneous < _LEFT_BEHIND or not content[max(0, end - extraneous) : end].strip(b"\0")
