"""Turns a file of any common picture format into upright RGB pixels, or says why it cannot.

Cameras rotate by a tag, scanners write 16 bits, logos carry palettes and transparency, presses use CMYK. Training
sees only upright 8-bit RGB; transparency is kept aside, because it is the best mask there is. Every picture is decoded
to its last byte here, so that a truncated one is found before training and not after an hour.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from tintype.dataset.archive import LOC
from tintype.errors import ImageLoadError, ImageTooLarge, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF")  # JPEG brings MPO along
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".heic",
    ".heif",
    ".avif",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".jfif",
    ".mpo",
)
# No training area needs more than this on its long side, even after a tight crop; larger pictures are reduced to it.
LONGEST_SIDE = 4096
_UPRIGHT = 1
_ORIENTATION = 0x0112
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Photo:
    """One picture: upright RGB, its transparency as a mask where it had any, and what had to be done to it."""

    name: str
    image: Image.Image
    alpha: Image.Image | None = None
    repairs: tuple[str, ...] = field(default=())


def read_photo(path: Path, name: str, *, most_pixels: int) -> Photo:
    """Decodes a picture completely. Raises UnsupportedImage, ImageTooLarge or ImageLoadError, naming the picture."""
    _know_heif()
    try:
        with warnings.catch_warnings():
            # The limit here is ours and checked below; Pillow's own would only repeat it as a warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF or TIFF tags, of no consequence for the pixels
            with Image.open(path, formats=FORMATS) as opened:
                return _decode(opened, name, most_pixels)
    except UnidentifiedImageError:
        raise UnsupportedImage(
            f"{name} is not a picture in a format that is read here.",
            loc=LOC,
            remedy="Save it as JPEG or PNG.",
            ctx={"supported_formats": [suffix.removeprefix(".") for suffix in SUFFIXES]},
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(name, most_pixels) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error) as problem:
        # Pillow's decoders raise all of these for damaged files.
        raise ImageLoadError(
            f"{name} is damaged and cannot be decoded ({problem}).", loc=LOC, remedy="Export or copy it again."
        ) from None


def _decode(opened: Image.Image, name: str, most_pixels: int) -> Photo:
    if opened.width * opened.height > most_pixels:
        raise _too_large(name, most_pixels)
    repairs = []
    if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":
        repairs.append("first of several frames taken")
    opened.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # a large JPEG is decoded at half size or less, far faster
    opened.load()
    if opened.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
        repairs.append("turned upright")
    upright = ImageOps.exif_transpose(opened)
    alpha = _transparency(upright)
    upright, converted = _in_srgb(upright)
    rgb, said = _as_rgb(upright)
    repairs += ["colours converted to sRGB"] if converted else said
    if max(rgb.size) > LONGEST_SIDE:
        rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        repairs.append(f"reduced to {rgb.width}x{rgb.height}")
        alpha = alpha.resize(rgb.size) if alpha else None
    return Photo(name, rgb, alpha, tuple(repairs))


def _in_srgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Colours as its profile means them: phones save Display P3, presses CMYK; training knows sRGB only."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK"):
        return image, False
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(meant).lower():
            return image, False
        seen = ImageCms.profileToProfile(image, meant, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, False  # a damaged profile: the colours as they are
    return (seen, True) if seen is not None else (image, False)


def _transparency(image: Image.Image) -> Image.Image | None:
    """The alpha channel as "L", or None where there is none or it is opaque everywhere."""
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    lowest = alpha.getextrema()[0]
    return alpha if isinstance(lowest, int | float) and lowest < 250 else None


def _as_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    if image.mode == "RGB":
        return image.copy(), []
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (*_WHITE, 255))
        return Image.alpha_composite(ground, layered).convert("RGB"), ["transparency laid on white"]
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep(image), [f"{image.mode} reduced to 8 bits"]
    return image.convert("RGB"), [] if image.mode in ("L", "P", "1") else [f"{image.mode} converted to RGB"]


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greys to 8 bits: convert() would clip all above 255 to white."""
    import numpy as np

    levels = np.asarray(image).astype(np.float64)
    top = float(levels.max(initial=0))
    full = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0 if top <= 65535 else top
    return Image.fromarray((levels.clip(0) / full * 255).round().astype(np.uint8)).convert("RGB")


def _too_large(name: str, most_pixels: int) -> ImageTooLarge:
    side = int(most_pixels**0.5)
    return ImageTooLarge(
        f"{name} has more than {most_pixels // 1_000_000} million pixels.",
        loc=LOC,
        remedy="Send it smaller; nothing above 4096 pixels a side is of use.",
        ctx={"max_width": side, "max_height": side},
    )


@functools.cache
def _know_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
