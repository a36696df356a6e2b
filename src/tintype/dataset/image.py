"""Decodes a file of any common image format to its last byte, or says why it cannot.

Cameras rotate by a tag, scanners write 16 bits, logos carry palettes and transparency, presses use CMYK, phones save
wide colours. Training sees only upright 8-bit sRGB; transparency is kept aside, because it is the best mask there is.
Turning and converting twelve million pixels takes longer than decoding them, so a photo stays as it was stored, and
only what is cropped out of it, already reduced, is turned and converted.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageCms, UnidentifiedImageError

from tintype.dataset.framing import Box
from tintype.dataset.jpeg import decoded_jpeg
from tintype.dataset.png import checked_png, is_png
from tintype.errors import ImageLoadError, ImageTooLarge, InputError, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF")  # JPEG brings MPO along
# What people call such files; only what is in them decides. A file of such a name that holds something else is said.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".jfif",
            ".mpo", ".jpe", ".apng", ".hif")  # fmt: skip
_HEAD = 18  # bytes that tell a format
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # lengths: "BM" alone may begin a sentence
# Formats whose files end with pixels, and with a run of zeros only where a copy was never finished.
_ENDS_IN_PIXELS = ("WEBP", "HEIF", "AVIF")
_ZEROS = bytes(256)
# No training area needs more than this on its long side, even after a tight crop; larger JPEGs are decoded at half.
LONGEST_SIDE = 4000
# After whole-number reduction a crop may be this much larger than asked; beyond, it is resampled to the very size.
_SLACK = 1.7
_ORIENTATION = 0x0112
_OPAQUE = 250  # alpha of 250 to 255 everywhere is no transparency
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """Holds a decoded image as it was stored: `pixels` (RGB, RGBX, L or CMYK) not yet turned nor converted."""

    name: str
    pixels: Image.Image
    orientation: int = 1  # EXIF's, 1 to 8
    alpha: Image.Image | None = None  # "L", of the size of `pixels`
    colours: ImageCms.ImageCmsTransform | None = None  # to sRGB
    repairs: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Gives width and height when upright."""
        width, height = self.pixels.size
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def frame(self) -> Box:
        """Bounds the whole image."""
        return Box(0, 0, *self.size)

    def crop(self, box: Box | None = None, *, at_least: tuple[int, int] | None = None) -> Image.Image:
        """Takes a part of the upright image as RGB in sRGB, reduced as far as it still covers `at_least`."""
        part = self._part(self.pixels, box, at_least)
        if self.colours is not None:
            part = ImageCms.applyTransform(part, self.colours) or part
        return self._turned(part.convert("RGB"))

    def crop_alpha(self, box: Box | None = None, *, at_least: tuple[int, int] | None = None) -> Image.Image | None:
        """Takes the same part of its transparency as "L"; None where it has none."""
        return None if self.alpha is None else self._turned(self._part(self.alpha, box, at_least))

    def _part(self, stored: Image.Image, box: Box | None, at_least: tuple[int, int] | None) -> Image.Image:
        box = box or self.frame
        edges = self._stored(box).edges
        if at_least is None:
            return stored.crop(edges)
        spare = max(1.0, min(box.width / at_least[0], box.height / at_least[1]))
        # Averaging whole blocks is far cheaper than resampling, and as good as long as nothing finer is asked for.
        part = stored.reduce(int(spare), edges) if spare >= 2 else stored.crop(edges)
        left = spare / int(spare)
        if left <= _SLACK:
            return part
        return part.resize((math.ceil(part.width / left), math.ceil(part.height / left)), Image.Resampling.LANCZOS)

    def _stored(self, box: Box) -> Box:
        """Where a part of the upright image lies in the stored one."""
        (width, height), (left, top, right, bottom) = self.pixels.size, box.edges
        if self.orientation >= 5:
            left, top, right, bottom = top, left, bottom, right
        if self.orientation in (2, 3, 7, 8):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        return Box(left, top, right, bottom)

    def _turned(self, part: Image.Image) -> Image.Image:
        turn = _TURNS.get(self.orientation)
        return part if turn is None else part.transpose(turn)


def read_photo(
    path: Path, name: str, *, most_pixels: int, reserve: Callable[[int], None] = lambda pixels: None
) -> Photo:
    """Decodes an image completely. Raises UnsupportedImage, ImageTooLarge or ImageLoadError, naming the image.

    `reserve` is called with the number of pixels before they are decoded, and may wait until there is memory for them.
    Pillow warns of large images and odd tags; whoever calls this from threads silences that once, outside of them.
    """
    register_heif()
    try:
        with path.open("rb") as file:
            if is_png(file.read(_HEAD)):
                with checked_png(file) as (content, profile), Image.open(content, formats=("PNG",)) as opened:
                    if profile is not None:
                        opened.info["icc_profile"] = profile
                    return _decode(opened, name, most_pixels, reserve)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.format in _ENDS_IN_PIXELS and _ends_in_zeros(file):
                    raise OSError("its end is missing")
                return _decode(opened, name, most_pixels, reserve)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, most_pixels) from None
    except Exception as problem:  # Pillow's decoders raise anything for damaged files
        if isinstance(problem, UnidentifiedImageError):
            if not is_picture(path):
                raise _unsupported(name) from None
            problem = OSError("its first bytes are those of a picture, what follows is not")
        why = (str(problem).strip() or type(problem).__name__).splitlines()[0][:120]
        raise ImageLoadError(
            f"{name} is damaged and cannot be decoded ({why}).", remedy="Export or copy it again."
        ) from None


def is_picture(path: Path) -> bool:
    """Tells by a file's first bytes whether it is in a format that is read here, whatever it is called."""
    register_heif()
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return any(Image.OPEN[form][1](head) is True for form in FORMATS)  # type: ignore[misc]


def _ends_in_zeros(file: IO[bytes]) -> bool:
    file.seek(-min(len(_ZEROS), file.seek(0, os.SEEK_END)), os.SEEK_END)
    return file.read() == _ZEROS


def _decode(opened: Image.Image, name: str, most_pixels: int, reserve: Callable[[int], None]) -> Photo:
    if opened.width * opened.height > most_pixels:
        raise _too_large(name, most_pixels)
    reserve(opened.width * opened.height)
    repairs = []
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        repairs.append("first of several frames taken")
    # Tags are read when the pixels are: Pillow decodes a PNG for its tags, and whatever is wrong would be theirs. Only
    # of a TIFF they are read before, because Pillow turns that by itself.
    turned = opened.format == "TIFF" and _orientation(opened) != 1
    before, stored = opened.size, _stored(opened)
    if max(stored.size) != max(before):
        repairs.append(f"reduced to {stored.width}x{stored.height}")
    orientation = _orientation(opened)
    if turned or orientation != 1:
        repairs.append("turned upright")
    profile = opened.info.get("icc_profile")
    pixels, alpha, conversions = _plain(stored)
    colours = _to_srgb(profile, pixels.mode)
    if colours is None and pixels.mode == "CMYK":
        pixels = pixels.convert("RGB")
        conversions = [*conversions, "CMYK converted to RGB"]
    elif colours is not None:
        conversions = [*conversions, "colours converted to sRGB"]
    return Photo(name, pixels, orientation, alpha, colours, (*repairs, *conversions))


def _stored(opened: Image.Image) -> Image.Image:
    """The pixels as they are stored; of a very large JPEG fewer, which reads every byte as well but computes less."""
    shrink = 1 << (max(opened.size) // LONGEST_SIDE or 1).bit_length() - 1  # decoders do it by powers of two
    least = (math.ceil(opened.width / shrink), math.ceil(opened.height / shrink))
    if opened.format in ("JPEG", "MPO"):
        decoded = decoded_jpeg(Path(opened.filename), opened.mode, least)  # type: ignore[attr-defined]
        if decoded is not None:
            return decoded
    if shrink > 1:
        opened.draft("RGB", least)
    opened.load()
    return opened


def _orientation(image: Image.Image) -> int:
    try:
        turned = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1  # broken tags are no reason to lose a good image
    return turned if turned in _TURNS else 1


def _plain(image: Image.Image) -> tuple[Image.Image, Image.Image | None, list[str]]:
    """Pixels as RGB, RGBX, L or CMYK, the alpha channel where it is not opaque, and what was done."""
    if image.mode in ("RGB", "RGBX", "L", "CMYK") and "transparency" not in image.info:
        return image, None, []
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        alpha = layered.getchannel("A")
        lowest = alpha.getextrema()[0]
        if not isinstance(lowest, int | float) or lowest >= _OPAQUE:
            return layered.convert("RGB"), None, []
        ground = Image.new("RGB", layered.size, "white")
        ground.paste(layered, mask=alpha)
        return ground, alpha, ["transparency laid on white"]
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep(image), None, [f"{image.mode} reduced to 8 bits"]
    return image.convert("RGB"), None, [] if image.mode in ("P", "1") else [f"{image.mode} converted to RGB"]


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greys to 8 bits: convert() would clip all above 255 to white."""
    import numpy as np

    levels = np.nan_to_num(np.asarray(image).astype(np.float64))
    top = float(levels.max(initial=0))
    full = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0 if top <= 65535 else top
    return Image.fromarray((levels.clip(0) / full * 255).round().astype(np.uint8))


def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to see colours as their profile means them: phones save Display P3, presses CMYK; training knows sRGB only.

    None where there is nothing to convert, or the profile is damaged or of another kind of image.
    """
    if not profile:
        return None
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode in ("RGB", "RGBX") and "srgb" in ImageCms.getProfileDescription(meant).lower():
            return None
        return ImageCms.buildTransform(meant, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _unsupported(name: str) -> UnsupportedImage:
    return UnsupportedImage(
        f"{name} is not a picture in a format that is read here.",
        remedy="Save it as JPEG or PNG.",
        ctx={"supported_formats": [suffix.removeprefix(".") for suffix in SUFFIXES]},
    )


def _too_large(name: str, most_pixels: int) -> ImageTooLarge:
    side = int(most_pixels**0.5)
    return ImageTooLarge(
        f"{name} has more than {most_pixels // 1_000_000} million pixels.",
        remedy=f"Send it smaller; nothing above {LONGEST_SIDE} pixels a side is of use.",
        ctx={"max_width": side, "max_height": side},
    )


@functools.cache
def register_heif() -> None:
    """Registers HEIC with Pillow, beside all that Pillow knows; once, and before any thread decodes."""
    import pillow_heif

    Image.init()
    pillow_heif.register_heif_opener()
