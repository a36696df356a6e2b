"""Makes archives of pictures in every format, with damage at random places, and knows what of them is whole."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import random
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.archives import METHODS, RawMember, raw_zip, zstandard
from tests.support.images import encoded, scene
from tintype.dataset.image import read_photo, register_heif

SIZE = (96, 72)
SEEDS = 12
# Format, options, and whether a file of it has checksums by which a changed byte is known.
WAYS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "jpg": ("JPEG", {}, False),
    "png": ("PNG", {}, True),
    "webp": ("WEBP", {}, False),
    "gif": ("GIF", {}, False),
    "bmp": ("BMP", {}, False),
    "tif": ("TIFF", {"compression": "tiff_lzw"}, False),
    "heic": ("HEIF", {}, False),
    "avif": ("AVIF", {}, False),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress, "tar.zst": zstandard,
}  # fmt: skip


@dataclass
class MadeArchive:
    """Holds an archive's content and what is true of it."""

    content: bytes = b""
    form: str = "zip"
    names: list[str] = field(default_factory=list)  # of every member that is a file
    whole: dict[str, str] = field(default_factory=dict)  # pictures that nothing was done to, and their formats
    damage: str = ""  # what was done to the archive as a whole

    @property
    def has_checksums(self) -> bool:
        """Tells whether the archive itself notices a changed byte of a member."""
        return self.form != "tar"


@functools.cache
def picture(suffix: str, seed: int) -> bytes:
    """The content of one picture; those of two seeds are unlike each other."""
    register_heif()
    form, options, _ = WAYS[suffix]
    return encoded(scene(seed, SIZE), form, **options)


@functools.cache
def pixels(suffix: str, seed: int, folder: Path) -> bytes:
    """What is trained of it."""
    path = folder / "truth"
    path.write_bytes(picture(suffix, seed))
    return read_photo(path, path.name, most_pixels=1_000_000).crop().tobytes()


def spoilt(content: bytes, suffix: str, dice: random.Random) -> bytes:
    """The picture with damage that its format can notice."""
    ways = ["cut", "head", "words"]
    ways += ["changed"] * 3 if WAYS[suffix][2] else []
    ways += ["ended"] if suffix == "jpg" else []
    ways += ["zeros"] if suffix not in ("bmp",) else []
    way, at = dice.choice(ways), dice.randrange(len(content) // 4, len(content) - 300)
    if way == "changed":
        at = dice.randrange(8, len(content))
        return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]
    return {
        "cut": content[:at], "head": content[: dice.randrange(3, 30)], "words": b"no picture at all",
        "zeros": content[:at] + bytes(len(content) - at), "ended": content[:at] + b"\xff\xd9",
    }[way]  # fmt: skip


def make(seed: int) -> MadeArchive:
    """One archive; the same for the same seed."""
    dice, made = random.Random(seed), MadeArchive()
    made.form = dice.choice(["zip", "zip", "zip", *PACKED])
    files: list[tuple[str, bytes]] = []
    for number, shot in enumerate(dice.sample(range(SEEDS), dice.randrange(1, 7))):
        suffix = dice.choice(list(WAYS))
        name = f"{shot:02d}.{dice.choice([suffix, suffix, 'jpg', 'jpg_large', 'png', 'dat'])}"
        content = picture(suffix, shot)
        if dice.random() < 0.3:
            content = spoilt(content, suffix, dice)
        else:
            made.whole[name] = suffix
        files.append((f"{'in/' * (number % 2)}{name}", content))
    made.whole = {next(full for full, _ in files if full.endswith(name)): way for name, way in made.whole.items()}
    for name, content in dice.sample(OTHERS, dice.randrange(3)):
        files.insert(dice.randrange(len(files) + 1), (name, content))
    made.names = [name for name, _ in files]
    pack = _zip if made.form == "zip" else _tar
    made.content = pack(files, made, dice)
    if dice.random() < 0.5:
        _damage(made, dice)
    return made


OTHERS = [
    ("notes.pdf", b"%PDF-1.7"), ("__MACOSX/._a.jpg", b"x"), (".DS_Store", b"x"), ("more.dat", b"PK\3\4 and more"),
    ("empty.jpg", b""),
]  # fmt: skip


def _zip(files: list[tuple[str, bytes]], made: MadeArchive, dice: random.Random) -> bytes:
    members = []
    for name, content in files:
        member: dict[str, Any] = {"method": dice.choice(list(METHODS)), "flags": dice.choice([0, 0x800])}
        fault = dice.choice(
            ["", "", "", "", "", "checksum", "own_name", "extra", "own_extra", "method", "locked", "lost"]
        )
        if fault in ("own_name", "extra", "own_extra"):  # which costs nothing
            member[fault] = dice.randbytes(dice.randrange(1, 30))
        elif fault:
            made.whole.pop(name, None)
        if fault == "checksum":
            member["checksum"] = zlib.crc32(content) ^ 1 << dice.randrange(32)
        elif fault == "method":
            member["method"] = dice.choice([1, 6, 97, 98])
        elif fault == "locked":
            member["flags"] |= 1
        elif fault == "lost":
            member["shift"] = dice.choice([3, 700, 1 << 20])
        members.append(RawMember(name.encode(), content, **member))
    around = {key: dice.randbytes(dice.randrange(60)) if dice.random() < 0.2 else b"" for key in ("before", "comment")}
    return raw_zip(members, **around)


def _tar(files: list[tuple[str, bytes]], made: MadeArchive, dice: random.Random) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=dice.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if dice.random() < 0.1:
                info.type, info.linkname = tarfile.SYMTYPE, "elsewhere"
                info.size = 0
                made.whole.pop(name, None)
            tar.addfile(info, io.BytesIO(content))
    return PACKED[made.form](target.getvalue())


def _damage(made: MadeArchive, dice: random.Random) -> None:
    content = bytearray(made.content)
    made.damage = dice.choice(["changed", "changed", "changed", "cut", "zeros"])
    at = dice.randrange(len(content))
    if made.damage == "changed":
        content[at] ^= 1 << dice.randrange(8)
    elif made.damage == "cut":
        del content[at:]
    else:
        length = min(dice.choice([10, 600, 5000]), len(content) - at)
        content[at : at + length] = bytes(length)
    made.content = bytes(content)
