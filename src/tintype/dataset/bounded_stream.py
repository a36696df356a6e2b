"""Decompresses what a stranger sent in pieces of bounded size, and counts every byte, also of what is passed over.

Python's own tar reader takes what a header says about its length at its word, and passes over a member by reading it.
Between it and the file stands this stream: it reads little at once, stops where an archive grows beyond reason, and
asks between two pieces whether it is still wanted.
"""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

PIECE = 256 * 1024
# Of an xz stream, which states how much memory its reader needs: `xz -9` needs 65 MiB.
XZ_MEMORY_BYTES = 256 * 1024 * 1024
_ZSTD_MEMORY: dict[int, int] = {DecompressionParameter.window_log_max: 27}  # 128 MiB, what `zstd --long` needs


class GrowsBeyondReason(Exception):
    """More came out of a stream than its reader allows."""


class Inflater:
    """zlib's object with the names that bz2 and lzma use; what did not fit the last piece goes in again first."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(wbits=window_bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gz": lambda: Inflater(16 + zlib.MAX_WBITS),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES),
    "zst": lambda: ZstdDecompressor(options=_ZSTD_MEMORY),
}
MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_LONGEST_MAGIC = max(map(len, MAGIC))
# What decompressors raise for a damaged stream: bz2's is an OSError.
DAMAGED_STREAM = (zlib.error, lzma.LZMAError, ZstdError, EOFError, OSError)


def compression_of(head: bytes) -> str | None:
    """The key of DECOMPRESSORS for a file that begins with `head`; None where it is not compressed."""
    return next((name for start, name in MAGIC.items() if head.startswith(start)), None)


class BoundedStream(io.RawIOBase):
    """A file's decompressed bytes: read forwards, at most `most` in all, with `check` called before each piece.

    Raises GrowsBeyondReason past `most`, and inside `header` past the bytes that a header may take; one of
    DAMAGED_STREAM for a damaged file; whatever `check` raises.
    """

    def __init__(
        self, file: IO[bytes], compression: str | None, *, most: int, check: Callable[[], None] = lambda: None
    ) -> None:
        self._file, self._compression, self._most, self._check = file, compression, most, check
        self._decompressor: Any = DECOMPRESSORS[compression]() if compression else None
        self._rest = b""  # of the file, not decompressed yet
        self._place = 0
        self._header_left: int | None = None

    @contextmanager
    def header(self, most: int) -> Iterator[None]:
        """While inside, no more than `most` bytes are read: what a header holds is kept in memory as a whole."""
        self._header_left = most
        try:
            yield
        finally:
            self._header_left = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Passes over what lies between; there is no way back."""
        if whence != io.SEEK_SET or place < self._place:
            raise OSError("this stream is read forwards only")
        while self._place < place and self._piece(min(place - self._place, PIECE)):
            pass
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        if self._header_left is not None:
            if size < 0 or size > self._header_left:
                raise GrowsBeyondReason("a header is far too long")
            self._header_left -= size
        pieces = []
        wanted = self._most + 1 if size < 0 else size
        while wanted > 0 and (piece := self._piece(min(wanted, PIECE))):
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        """At most `size` bytes, none only at the end."""
        self._check()
        piece = self._file.read(size) if self._decompressor is None else self._decompressed(self._decompressor, size)
        self._place += len(piece)
        if self._place > self._most:
            raise GrowsBeyondReason("it grows beyond reason")
        return piece

    def _decompressed(self, decompressor: Any, size: int) -> bytes:
        while True:
            if decompressor.eof:  # another stream may follow, as of files that were joined; padding may too
                self._rest = decompressor.unused_data + self._rest
                while len(self._rest.lstrip(b"\0")) < _LONGEST_MAGIC and (more := self._file.read(PIECE)):
                    self._rest = self._rest.lstrip(b"\0") + more
                self._rest = self._rest.lstrip(b"\0")
                if compression_of(self._rest) != self._compression:  # nothing, or something else: gzip ignores it too
                    return b""
                assert self._compression is not None
                decompressor = self._decompressor = DECOMPRESSORS[self._compression]()
            data, self._rest = self._rest, b""
            piece: bytes = decompressor.decompress(data, size)
            if piece:
                return piece
            if not decompressor.eof and not data:
                more = self._file.read(PIECE)
                if not more:
                    raise EOFError("it was cut off on its way")
                self._rest = more
