"""What kind of file a fetched input is: jobs infer archive and picture formats from the suffix of a local path.

The URL's own name wins where it says something, then the server's words, then the first bytes.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

KNOWN_SUFFIXES = (
    ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".zip", ".tar", ".safetensors",
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".json", ".txt",
)  # fmt: skip

_BY_CONTENT_TYPE = {
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/x-tar": ".tar",
    "application/gzip": ".tar.gz",
    "application/x-gzip": ".tar.gz",
    "application/x-bzip2": ".tar.bz2",
    "application/x-xz": ".tar.xz",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/avif": ".avif",
    "application/json": ".json",
    "text/plain": ".txt",
}

_BY_FIRST_BYTES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", ".zip"),
    (0, b"PK\x05\x06", ".zip"),
    (0, b"\x1f\x8b", ".tar.gz"),
    (0, b"BZh", ".tar.bz2"),
    (0, b"\xfd7zXZ\x00", ".tar.xz"),
    (257, b"ustar", ".tar"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (8, b"WEBP", ".webp"),
    (0, b"GIF8", ".gif"),
    (4, b"ftypheic", ".heic"),
    (4, b"ftypmif1", ".heif"),
    (4, b"ftypavif", ".avif"),
)


def content_type_of_name(name: str) -> str:
    """Tells the content type that a name's suffix speaks for."""
    suffix = suffix_of_name(name)
    suffix = {".jpeg": ".jpg", ".tif": ".tiff", ".tgz": ".tar.gz"}.get(suffix, suffix)
    return next((type_ for type_, known in _BY_CONTENT_TYPE.items() if known == suffix), "application/octet-stream")


def suffix_of_name(name: str) -> str:
    """Returns the known suffix a name ends in, or nothing."""
    lowered = name.lower()
    return next((suffix for suffix in KNOWN_SUFFIXES if lowered.endswith(suffix)), "")


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
    return _BY_CONTENT_TYPE.get(content_type.split(";")[0].strip().lower(), "")


def suffix_of_bytes(head: bytes) -> str:
    """Tells the suffix that the first bytes of a file speak for, or nothing."""
    for at, magic, suffix in _BY_FIRST_BYTES:
        if head[at : at + len(magic)] == magic:
            return suffix
    if len(head) > 9 and head[8:9] == b"{" and 2 < int.from_bytes(head[:8], "little") < 2**31:
        return ".safetensors"
    return ""
