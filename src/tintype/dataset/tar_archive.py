"""Reads a tar by its headers alone, and lets one that is damaged cost no more than its own file.

Python's own loop takes a damaged header, or a block of zeros, for the end of the tar, and says nothing of what follows;
it leaves before the checksum of the compression around the tar.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

from tintype.dataset.archive_entry import LINK, Entry, TooManyEntries
from tintype.dataset.bounded_stream import PIECE, BoundedStream

_LONGEST_HEADER = 64 * 1024  # bytes of a header with all its extensions
_DAMAGED_HEADER = "its entry in the archive is damaged"
_NAMELESS = "a file without a name"


class NoTar(tarfile.ReadError):
    """What was opened as a tar does not begin like one."""


class _DamagedHeader(Exception):
    """A tar's header has a wrong checksum. Holds what can be read of the name, None where it resembles no header."""


class _TarInfo(tarfile.TarInfo):
    """Tells a damaged header from the end of a tar."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if buf.count(0) == tarfile.BLOCKSIZE - 1:  # of the padding, but for a damaged byte
            buf = bytes(tarfile.BLOCKSIZE)
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.InvalidHeaderError:  # type: ignore[attr-defined]
            resembles = buf[257:262] == b"ustar" or buf[148:154].isdigit()  # its magic, or its checksum
            name = bytes(buf[:100]).split(b"\0")[0].decode(encoding, "replace")
            raise _DamagedHeader(name if resembles else None) from None


def tar_entries(stream: BoundedStream, most: int, longest: int) -> Iterator[Entry]:
    """Yields what a tar lists, read to its very end, and goes on after a damaged header.

    `longest` is how many bytes may stand between two headers and belong to no file. Raises TooManyEntries beyond
    `most`, NoTar, another tarfile.TarError, or what the stream does.
    """
    tar = tarfile.TarFile(fileobj=io.BytesIO(bytes(tarfile.BLOCKSIZE)), encoding="utf-8")
    tar.fileobj, tar.offset = stream, 0
    ended = lost = False
    seen = searched = 0
    while searched <= longest:
        if stream.seek(tar.offset) < tar.offset:
            raise EOFError("it was cut off on its way")
        try:
            with stream.header(_LONGEST_HEADER):
                info = _TarInfo.fromtarfile(tar)
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            if stream.tell() == 0:
                raise NoTar("it is empty") from None
            return
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            ended = ended or not lost  # else it belongs to the file whose header is damaged
        except (_DamagedHeader, tarfile.HeaderError, ValueError) as problem:
            if isinstance(problem, tarfile.TruncatedHeaderError) and not ended:  # type: ignore[attr-defined]
                raise EOFError("it was cut off on its way") from None
            name = problem.args[0] if isinstance(problem, _DamagedHeader) else None
            if stream.tell() <= tarfile.BLOCKSIZE and name is None:
                raise NoTar("it does not begin like a tar") from None
            if not lost and not ended:
                yield Entry(name or _NAMELESS, reason=_DAMAGED_HEADER)
            lost, searched = True, searched + tarfile.BLOCKSIZE
        else:
            if lost and ended:  # there was more after the end, so that it was none
                yield Entry(_NAMELESS, reason=_DAMAGED_HEADER)
            ended = lost = False
            seen += 1
            if seen > most:
                raise TooManyEntries(seen)
            if not info.isdir():
                yield Entry(_name(info), functools.partial(_pieces, tar, info), "" if info.isreg() else LINK)
            continue
        tar.offset = stream.tell()
    raise tarfile.ReadError("its headers are damaged")


def _name(info: tarfile.TarInfo) -> str | bytes:
    """The name as text where a header says that it is UTF-8, and it is; such headers may also hold bare bytes."""
    raw = info.name.encode("utf-8", "surrogateescape")
    if "path" in info.pax_headers:
        with suppress(UnicodeDecodeError):
            return raw.decode()
    return raw


def _pieces(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    source = tar.extractfile(info)
    assert source is not None  # it is a regular file
    with source:
        while piece := source.read(PIECE):
            yield piece
