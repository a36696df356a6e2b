"""Reads the list of a zip archive and its members, and lets what is wrong with one member cost no other.

Python's own reader gives up on the whole archive for an extra field that is malformed or a name that is written
differently in two places, and knows four methods of compression. Here one member is read at a time, from nothing but
its place, its method and its checksum, in pieces of bounded size.
"""

from __future__ import annotations

import bz2
import functools
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import inflate64

from tintype.dataset.archive_entry import LINK, LOCKED, Entry, UnreadableMember
from tintype.dataset.bounded_stream import DAMAGED_STREAM, DECOMPRESSORS, PIECE, XZ_MEMORY_BYTES, Inflater

LONGEST_DIRECTORY = 4 * 1024 * 1024  # bytes; it is kept in memory as a whole
_UTF8_NAME = 0x800  # flag: the name is UTF-8
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")  # of the directory
_LOCAL = struct.Struct("<4s5H3L2H")  # before the member itself
_NUMBERS_IN_EXTRA, _NAME_IN_EXTRA = 0x0001, 0x7075
_UNKNOWN = 0xFFFFFFFF  # stands for a number that an extra field holds
# Output is up to 28,000 times the input, and there is no way to ask for less.
_DEFLATE64_INPUT = 64


class EndRecord:
    """Holds what the end of a zip archive says of its directory."""

    def __init__(self, record: list[Any]) -> None:
        self.entries = record[zipfile._ECD_ENTRIES_TOTAL]  # type: ignore[attr-defined]
        self.directory_bytes = record[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
        self.is_split = 0 < record[zipfile._ECD_DISK_NUMBER] < 0xFFFF  # type: ignore[attr-defined]
        self.offset = record[zipfile._ECD_OFFSET]  # type: ignore[attr-defined]
        self.end = record[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
        if record[zipfile._ECD_SIGNATURE] == zipfile.stringEndArchive64:  # type: ignore[attr-defined]
            self.end -= zipfile.sizeEndCentDir64 + zipfile.sizeEndCentDir64Locator  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Member:
    """Holds what the directory says of one member."""

    name: str | bytes  # text where it is declared to be UTF-8, and is
    method: int
    checksum: int
    packed_bytes: int
    size: int
    places: tuple[int, int]  # where it may begin, likeliest first
    is_encrypted: bool
    is_folder: bool
    is_link: bool


def end_record(file: IO[bytes]) -> EndRecord | None:
    """Finds the end record of a zip archive, whatever stands before its first member; None where it has none."""
    try:
        record = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    except (OSError, zipfile.BadZipFile):
        return None
    return EndRecord(record) if record else None


def zip_entries(file: IO[bytes], record: EndRecord) -> Iterator[Entry]:
    """Yields the files of a zip archive in their order. Raises BadZipFile where its directory is damaged."""
    for member in list(_directory(file, record)):  # whole before anything is read, since there may be no more to read
        if not member.is_folder:
            reason = LINK if member.is_link else LOCKED if member.is_encrypted else ""
            yield Entry(member.name, functools.partial(_read, file, member), reason)


def _directory(file: IO[bytes], record: EndRecord) -> Iterator[_Member]:
    # What stands before the archive, as a program that unpacks it, shifts every place that is named.
    begin = max(0, record.end - record.directory_bytes)
    shift = begin - record.offset
    file.seek(begin)
    listed = file.read(record.directory_bytes)
    if not listed.startswith(b"PK\1\2") and record.entries:  # its length is wrong, or something stands behind it
        file.seek(record.offset)
        listed, shift = file.read(min(record.end - record.offset, LONGEST_DIRECTORY)), 0
    at = count = 0
    while listed.startswith(b"PK\1\2", at) and at + _ENTRY.size <= len(listed):
        entry = _ENTRY.unpack_from(listed, at)
        name_bytes, extra_bytes, comment_bytes = entry[12:15]
        at, count = at + _ENTRY.size, count + 1
        name = listed[at : at + name_bytes]
        at += name_bytes
        yield _member(entry, name, listed[at : at + extra_bytes], shift)
        at += extra_bytes + comment_bytes
    if at != len(listed) and count < record.entries:
        raise zipfile.BadZipFile("its list of members is damaged")


def _member(entry: tuple[Any, ...], name: bytes, extra: bytes, shift: int) -> _Member:
    flags, method, checksum, attributes = entry[5], entry[6], entry[9], entry[17]
    numbers = [entry[11], entry[10], entry[18]]  # in the order in which the extra field has them
    is_utf8 = bool(flags & _UTF8_NAME)
    for kind, content in _extra_fields(extra):
        if kind == _NUMBERS_IN_EXTRA:
            for at, number in enumerate(numbers):
                if number == _UNKNOWN:
                    numbers[at], content = int.from_bytes(content[:8], "little"), content[8:]
        elif kind == _NAME_IN_EXTRA and content[1:5] == zlib.crc32(name).to_bytes(4, "little"):
            name, is_utf8 = content[5:], True
    size, packed_bytes, offset = numbers
    is_folder = name.endswith(b"/") or (size == 0 and (bool(attributes & 0x10) or name.endswith(b"\\")))
    return _Member(
        name=_name(name.split(b"\0")[0], is_utf8),
        method=method,
        checksum=checksum,
        packed_bytes=packed_bytes,
        size=size,
        places=(offset + shift, offset),
        is_encrypted=bool(flags & 1),
        is_folder=is_folder,
        is_link=(attributes >> 16) & 0o170000 == 0o120000,
    )


def _name(raw: bytes, is_utf8: bool) -> str | bytes:
    if not is_utf8:
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields fields as far as they make sense: programs leave anything there, and little of it matters."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if length > len(extra) - 4:
            return
        yield kind, extra[4 : 4 + length]
        extra = extra[4 + length :]


def _read(file: IO[bytes], member: _Member) -> Iterator[bytes]:
    """Yields what a member holds, a few MiB at most at once. Raises UnreadableMember, perhaps only after the last."""
    try:
        yield from _pieces(file, member)
    except (*DAMAGED_STREAM, ValueError, OverflowError, struct.error) as problem:
        why = (str(problem).strip() or type(problem).__name__).splitlines()[0][:80]
        # Another method than the usual one is as likely the reason as damage is, and the same thing helps.
        packed = "" if member.method in _USUAL else f", where it is compressed by {_name_of(member.method)}; {_AGAIN}"
        raise UnreadableMember(f"damaged in the archive ({why}){packed}") from None


def _pieces(file: IO[bytes], member: _Member) -> Iterator[bytes]:
    for place in member.places:
        file.seek(place)
        local = file.read(_LOCAL.size)
        if local.startswith(b"PK\3\4"):
            break
    else:
        raise EOFError("it is not where the archive says")
    # Its own name may be written with other slashes, or in another encoding, than the directory has it.
    *_, name_bytes, extra_bytes = _LOCAL.unpack(local)
    file.seek(name_bytes + extra_bytes, 1)
    left, written, checksum, data = member.packed_bytes, 0, 0, b""
    decompressor = _decompressor(file, member)
    if member.method == _LZMA:
        left -= _LZMA_HEADER.size
    # Not every method marks its end, so the size counts as well.
    while written < member.size and not decompressor.eof:
        piece = decompressor.decompress(data, PIECE)
        data = b""
        if piece:
            written, checksum = written + len(piece), zlib.crc32(piece, checksum)
            yield piece
        elif not decompressor.eof:
            data = file.read(min(PIECE, left))
            left -= len(data)
            if not data:
                raise EOFError("it is cut off")
    if checksum != member.checksum:
        raise ValueError("its checksum is wrong")


class _Stored:
    """Gives back what it gets."""

    eof = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return data


class _Deflate64:
    """Undoes what Windows' Explorer does to files of more than 2 GB, in pieces of a few MiB."""

    def __init__(self) -> None:
        self._inner, self._waiting, self._at = inflate64.Inflater(), b"", 0

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:  # what came before is used up
            self._waiting, self._at = data, 0
        out = bytearray()
        while self._at < len(self._waiting) and len(out) < max_length and not self.eof:
            try:
                out += self._inner.inflate(self._waiting[self._at : self._at + _DEFLATE64_INPUT])
            except ValueError:  # which has a number and no words
                raise zlib.error("invalid data") from None
            self._at += _DEFLATE64_INPUT
        return bytes(out)


_LZMA = 14
_LZMA_HEADER = struct.Struct("<HHBL")  # version, bytes of settings, settings: how literals are coded, memory
_METHODS: dict[int, Callable[[], Any]] = {
    0: _Stored,
    8: lambda: Inflater(-zlib.MAX_WBITS),
    9: _Deflate64,
    12: bz2.BZ2Decompressor,
    20: DECOMPRESSORS["zst"],
    93: DECOMPRESSORS["zst"],
    95: DECOMPRESSORS["xz"],
}
_USUAL = (0, 8)  # stored, and Deflate
_NAMES = {
    1: "Shrink", 6: "Implode", 9: "Deflate64 (as Windows' Explorer does above 2 GB)", 10: "PKWARE's own method",
    12: "bzip2", _LZMA: "LZMA", 20: "Zstandard", 93: "Zstandard", 95: "xz", 96: "a method for JPEG", 97: "WavPack",
    98: "PPMd",
}  # fmt: skip
_AGAIN = "pack the photos again as a plain .zip"


def _name_of(method: int) -> str:
    return _NAMES.get(method, f"method {method}")


def _decompressor(file: IO[bytes], member: _Member) -> Any:
    """What undoes the method of a member whose bytes begin here."""
    if member.method == _LZMA:
        _, _, coding, memory = _LZMA_HEADER.unpack(file.read(_LZMA_HEADER.size))
        if memory > XZ_MEMORY_BYTES:
            raise UnreadableMember(f"it takes too much memory to unpack; {_AGAIN}")
        settings = {"id": lzma.FILTER_LZMA1, "dict_size": memory, "lc": coding % 9}
        settings |= {"lp": coding // 9 % 5, "pb": coding // 45}
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings])
    if member.method not in _METHODS:
        raise UnreadableMember(f"compressed by {_name_of(member.method)}, which is not read here; {_AGAIN}")
    return _METHODS[member.method]()
