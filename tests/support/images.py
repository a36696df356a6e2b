"""Pictures that tests send: noise that compresses badly, a real face, colour profiles, and archives of them."""

from __future__ import annotations

import importlib.util
import io
import random
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from miniature.world import Subject, photograph, write_archive
from PIL import Image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The picture as a file's content."""
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def scene(seed: int = 0, size: tuple[int, int] = (640, 640)) -> Image.Image:
    """A picture unlike any of another seed, with detail at every scale."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size)
    for cells in (3, 9, 40, max(size) // 2):
        layer = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        image = Image.blend(image, layer.resize(size, Image.Resampling.BICUBIC), 0.5)
    return image


def person() -> Image.Image:
    """A real portrait, 512x512: Eileen Collins, as scikit-image's wheel carries her (NASA, public domain)."""
    return example_picture("astronaut.png")


def example_picture(name: str) -> Image.Image:
    """A picture that scikit-image's wheel carries."""
    package = importlib.util.find_spec("skimage")
    assert package is not None
    assert package.submodule_search_locations
    with Image.open(Path(package.submodule_search_locations[0]) / "data" / name) as opened:
        return opened.convert("RGB")


FACE = (176, 66, 272, 162)  # of `person`, brow to chin


def blots(seed: int, size: tuple[int, int] = (512, 512)) -> bytes:
    """A PNG file that resembles that of no other seed, and compresses well."""
    colours = Image.frombytes("RGB", (6, 6), random.Random(seed).randbytes(6 * 6 * 3))
    return encoded(colours.resize(size, Image.Resampling.BICUBIC))


def archive_of(files: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive's content."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def zipped(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """A zip archive at `path`."""
    path.write_bytes(archive_of(files))
    return path


def photos_of_subject(path: Path, seed: int, count: int, *, size: int = 1024, captions: bool = False) -> Path:
    """Writes an archive of photos of one subject of the miniature's world."""
    write_archive(path, photograph(Subject.from_seed(seed), count, size), captions)
    return path


def display_p3() -> bytes:
    """An ICC profile, version 2, of Display P3's primaries (adapted to D50) with a plain gamma of 2.2."""
    columns = {"rXYZ": (0.51512, 0.2412, -0.00105), "gXYZ": (0.29198, 0.69225, 0.04189),
               "bXYZ": (0.1571, 0.06657, 0.78407)}  # fmt: skip
    tags = {name: b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values) for name, values in columns.items()}
    tags["wtpt"] = b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in (0.9642, 1.0, 0.8249))
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags |= {"rTRC": gamma, "gTRC": gamma, "bTRC": gamma, "cprt": b"text\0\0\0\0none\0\0\0\0"}
    words = b"Display P3 of a test\0"
    tags["desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(words)) + words + b"\0" * 78
    table, body = struct.pack(">I", len(tags)), b""
    begin = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name.encode() + struct.pack(">II", begin + len(body), len(content))
        body += content
    header = struct.pack(">I", begin + len(body)) + b"\0\0\0\0" + bytes([2, 0x40, 0, 0]) + b"mntrRGB XYZ "
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(_fixed(value) for value in (0.9642, 1.0, 0.8249))
    return header.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
