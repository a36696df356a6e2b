"""Says what a file is by its first bytes, so that people read what they sent and not what a library missed in it."""

from __future__ import annotations

HEAD = 512  # bytes that are looked at

_PACK = "Pack the photos into a .zip, and send that."
_AGAIN = "Unpack it, pack the photos as .zip, and send that."
_LINK = "Send the file itself, or the address at which it is downloaded without a page in between."
_LFS = "Send the file itself; `git lfs pull` fetches it."
_JOIN = "Join the parts, or pack the photos again as one .zip."
# First bytes, from which place on, what it is, and what to do.
_ARCHIVES = (
    (b"PK\x03\x04", 0, "a zip archive", _AGAIN),
    (b"PK\x05\x06", 0, "an empty zip archive", _PACK),
    (b"PK\x07\x08", 0, "the first part of a zip archive that was split", _JOIN),
    (b"Rar!", 0, "a RAR archive", _AGAIN),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", _AGAIN),
    (b"\x28\xb5\x2f\xfd", 0, "one file compressed by Zstandard", _AGAIN),
    (b"\x1f\x8b", 0, "one file compressed by gzip", _AGAIN),
    (b"BZh", 0, "one file compressed by bzip2", _AGAIN),
    (b"\xfd7zXZ\x00", 0, "one file compressed by xz", _AGAIN),
    (b"\x04\x22\x4d\x18", 0, "an LZ4 archive", _AGAIN),
    (b"LZIP", 0, "an lzip archive", _AGAIN),
    (b"\x1f\x9d", 0, "a file compressed by compress", _AGAIN),
    (b"MSCF", 0, "a CAB archive", _AGAIN),
    (b"ustar", 257, "a tar archive", _AGAIN),
)
_OTHERS = (
    (b"\xff\xd8\xff", 0, "a single JPEG picture", _PACK),
    (b"\x89PNG", 0, "a single PNG picture", _PACK),
    (b"GIF8", 0, "a single GIF picture", _PACK),
    (b"II*\x00", 0, "a single TIFF picture", _PACK),
    (b"MM\x00*", 0, "a single TIFF picture", _PACK),
    (b"WEBP", 8, "a single WebP picture", _PACK),
    (b"ftypavi", 4, "a single AVIF picture", _PACK),
    (b"ftyphe", 4, "a single HEIC picture", _PACK),
    (b"ftypmif", 4, "a single HEIC picture", _PACK),
    (b"ftypmsf", 4, "a single HEIC picture", _PACK),
    (b"ftyp", 4, "a video", "Send photos, packed as .zip."),
    (b"%PDF", 0, "a PDF document", _PACK),
    (b'{"', 8, "a safetensors file: weights, or a LoRA", "Send the photos here, and the LoRA where one is asked for."),
)
_TEXTS = (
    (b"version https://git-lfs", "a git-LFS pointer, which stands for a file and is not it", _LFS),
    (b"<?xml", "XML, with which storage services refuse", _LINK),
    (b"<error", "XML, with which storage services refuse", _LINK),
    (b"<", "a web page", _LINK),
    (b"{", "JSON text", _LINK),
    (b"[", "JSON text", _LINK),
    (b"http", "an address and not what lies there", _LINK),
    (b"data:", "a data URI written to a file", "Send the file that it was made from."),
    (b"uesdb", "a zip archive in Base64", "Send the file that it was made from."),
)


def archive_kind(head: bytes) -> str:
    """Names the kind of archive that begins with `head`; empty where it is none."""
    return next((what for start, at, what, _ in _ARCHIVES if head.startswith(start, at)), "")


def kind_of(head: bytes) -> tuple[str, str]:
    """Names what begins with `head`, and what to do about it in place of an archive; both empty where it is unknown."""
    for start, at, what, remedy in (*_ARCHIVES, *_OTHERS):
        if head.startswith(start, at):
            return what, remedy
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next(((what, remedy) for start, what, remedy in _TEXTS if text.startswith(start)), ("", ""))
