"""What kind of file a fetched input is: jobs infer archive and picture formats from the suffix of a local path.

The URL's own name wins where it says something, then the server's words, then the first bytes.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Format(NamedTuple):
    """A kind of file: suffixes and content types, the usual one of each first, and what stands where in its bytes."""

    suffixes: tuple[str, ...]
    types: tuple[str, ...] = ()
    marks: tuple[tuple[int, bytes], ...] = ()


FORMATS = (
    Format((".zip",), ("application/zip", "application/x-zip-compressed"), ((0, b"PK\x03\x04"), (0, b"PK\x05\x06"))),
    Format((".tar.gz", ".tgz"), ("application/gzip", "application/x-gzip"), ((0, b"\x1f\x8b"),)),
    Format((".tar.bz2", ".tbz2"), ("application/x-bzip2",), ((0, b"BZh"),)),
    Format((".tar.xz", ".txz"), ("application/x-xz",), ((0, b"\xfd7zXZ\x00"),)),
    Format((".tar",), ("application/x-tar",), ((257, b"ustar"),)),
    Format((".jpg", ".jpeg"), ("image/jpeg",), ((0, b"\xff\xd8\xff"),)),
    Format((".png",), ("image/png",), ((0, b"\x89PNG\r\n\x1a\n"),)),
    Format((".webp",), ("image/webp",), ((8, b"WEBP"),)),
    Format((".gif",), ("image/gif",), ((0, b"GIF8"),)),
    Format((".bmp",), ("image/bmp",)),
    Format((".tiff", ".tif"), ("image/tiff",)),
    Format((".heic",), ("image/heic",), ((4, b"ftypheic"),)),
    Format((".heif",), ("image/heif",), ((4, b"ftypmif1"),)),
    Format((".avif",), ("image/avif",), ((4, b"ftypavif"),)),
    Format((".json",), ("application/json",)),
    Format((".txt",), ("text/plain",)),
    Format((".safetensors",)),
)


def content_type_of_name(name: str) -> str:
    """Tells the content type that a name's suffix speaks for."""
    types = (kind.types[0] for kind in FORMATS if kind.types and name.lower().endswith(kind.suffixes))
    return next(types, "application/octet-stream")


def suffix_of_name(name: str) -> str:
    """Returns the known suffix a name ends in, or nothing."""
    return next((suffix for kind in FORMATS for suffix in kind.suffixes if name.lower().endswith(suffix)), "")


def suffix_for(url: str, *, content_type: str = "", disposition: str = "", head: bytes = b"") -> str:
    """Chooses a suffix such as `.zip`, or `.bin` when nothing tells. `head` is the first 512 bytes."""
    named = re.search(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", disposition, re.IGNORECASE)
    return (
        suffix_of_name(unquote(urlsplit(url).path))
        or (suffix_of_name(unquote(named.group(1))) if named else "")
        or suffix_of_bytes(head)
        or suffix_of_type(content_type)
        or ".bin"
    )


def suffix_of_type(content_type: str) -> str:
    """Tells the suffix that a content type speaks for, or nothing."""
    plain = content_type.split(";")[0].strip().lower()
    return next((kind.suffixes[0] for kind in FORMATS if plain in kind.types), "")


def suffix_of_bytes(head: bytes) -> str:
    """Tells the suffix that the first bytes of a file speak for, or nothing."""
    for kind in FORMATS:
        if any(head[at : at + len(mark)] == mark for at, mark in kind.marks):
            return kind.suffixes[0]
    if len(head) > 9 and head[8:9] == b"{" and 2 < int.from_bytes(head[:8], "little") < 2**31:
        return ".safetensors"
    return ""
