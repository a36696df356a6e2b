"""Checks a PNG's checksums, and keeps from its reader what is no pixel and longer than that reader bears.

Pillow looks at the checksums of what stands before the pixels alone, takes a missing end for an end, and refuses a
whole photo for the workflow that a program wrote into it, or for the colour profile of a press.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_NOTHING = b"pADd"  # a kind that no reader knows
_MOST_TEXT = 1024 * 1024  # bytes of one; Pillow refuses more
_MOST_TEXTS = 16 * _MOST_TEXT  # of all of a PNG, and of a profile
_PIECE = 256 * 1024


def is_png(head: bytes) -> bool:
    """Tells a PNG by its first bytes."""
    return head.startswith(_SIGNATURE)


@contextmanager
def checked_png(file: IO[bytes]) -> Iterator[tuple[IO[bytes], bytes | None]]:
    """Gives what Pillow reads of a PNG file, and its profile where that is too long for Pillow.

    Raises OSError for a wrong checksum or a missing end. The file itself is not changed.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        yield cast(IO[bytes], content), _check_chunks(content)


def _check_chunks(content: mmap.mmap) -> bytes | None:
    """Hides chunks that are not needed, or too long; returns a profile among these."""
    at, texts, profile = len(_SIGNATURE), 0, None
    while at + 12 <= len(content):
        kind, end = content[at + 4 : at + 8], at + 8 + int.from_bytes(content[at : at + 4], "big")
        if _checksum(content, at + 4, end) != content[end : end + 4]:
            raise OSError(f"{kind.decode('latin-1')!r} has a wrong checksum, or ends too early")
        if kind == b"IEND":
            return profile
        is_needed = kind in _NEEDED
        if kind in _TEXTS:
            text = _unpacked(kind, content[at + 8 : min(end, at + 8 + _MOST_TEXTS)])
            texts += len(text)
            is_needed = len(text) <= _MOST_TEXT and texts <= _MOST_TEXTS
            if kind == b"iCCP" and not is_needed:
                profile = text
        if not is_needed:
            content[at + 4 : at + 8] = _NOTHING
            content[end : end + 4] = _checksum(content, at + 4, end)
        at = end + 4
    raise OSError("it ends too early")


def _checksum(content: mmap.mmap, begin: int, end: int) -> bytes:
    checksum = 0
    for at in range(begin, min(end, len(content)), _PIECE):
        checksum = zlib.crc32(content[at : min(at + _PIECE, end)], checksum)
    return checksum.to_bytes(4, "big")


def _unpacked(kind: bytes, content: bytes) -> bytes:
    """What a text or profile holds, as much as is allowed; zeros where it cannot be read."""
    _, _, packed = content.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and packed[:1] != b"\1"):
        return content
    packed = packed[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else packed[1:]
    try:
        return zlib.decompressobj().decompress(packed, _MOST_TEXTS)
    except zlib.error:
        return bytes(_MOST_TEXT + 1)
