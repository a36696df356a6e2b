"""A stream never gives more, nor reads more at once, than its reader allows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable

import pytest

from tintype.dataset.bounded_stream import PIECE, BoundedStream, GrowsBeyondReason, compression_of

COMPRESS: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
CONTENT = random.Random(0).randbytes(3 * PIECE + 17) + bytes(5 * PIECE)


def stream(packed: bytes, compression: str | None, most: int = 1 << 30) -> BoundedStream:
    return BoundedStream(io.BytesIO(packed), compression, most=most)


@pytest.mark.parametrize("compression", COMPRESS)
def test_what_was_packed_comes_out_whatever_the_sizes_asked_for(compression: str | None) -> None:
    packed, sizes = COMPRESS[compression](CONTENT), random.Random(1)
    assert compression_of(packed) == compression
    reading = stream(packed, compression)
    pieces = []
    while piece := reading.read(sizes.choice([1, 511, 512, PIECE, 2 * PIECE + 3])):
        pieces.append(piece)
    assert b"".join(pieces) == CONTENT
    assert reading.tell() == len(CONTENT)


@pytest.mark.parametrize("compression", [name for name in COMPRESS if name])
def test_joined_and_padded_streams_are_one(compression: str) -> None:
    pack = COMPRESS[compression]
    packed = pack(b"one") + pack(b"") + pack(b"two" * PIECE) + bytes(1024)
    assert stream(packed, compression).read(-1) == b"one" + b"two" * PIECE


@pytest.mark.parametrize("compression", COMPRESS)
def test_what_is_passed_over_is_counted_too(compression: str | None) -> None:
    packed = COMPRESS[compression](CONTENT)
    assert stream(packed, compression, most=len(CONTENT)).seek(len(CONTENT)) == len(CONTENT)
    with pytest.raises(GrowsBeyondReason):
        stream(packed, compression, most=len(CONTENT) - 1).seek(len(CONTENT))


@pytest.mark.parametrize("compression", [name for name in COMPRESS if name])
def test_one_that_was_cut_off_ends_with_an_error_and_never_in_a_loop(compression: str) -> None:
    packed = COMPRESS[compression](CONTENT)
    for length in (len(packed) - 1, len(packed) // 2, 5):
        with pytest.raises((EOFError, OSError, lzma.LZMAError)):
            stream(packed[:length], compression).read(-1)


def test_it_asks_whether_it_is_still_wanted_while_it_passes_over() -> None:
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedError

    reading = BoundedStream(io.BytesIO(gzip.compress(CONTENT)), "gz", most=1 << 30, check=check)
    with pytest.raises(InterruptedError):
        reading.seek(len(CONTENT))
    assert reading.tell() <= 2 * PIECE


def test_an_xz_stream_that_wants_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    packed = lzma.compress(b"x", format=lzma.FORMAT_XZ, filters=filters)
    with pytest.raises((lzma.LZMAError, MemoryError)):
        stream(packed, "xz").read(-1)


def _name_of(length: int) -> bytes:
    """A tar whose first member has a name of so many characters."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("n" * length))
    return target.getvalue()


@pytest.mark.parametrize(("length", "fits"), [(300, True), (60_000, True), (70_000, False), (5_000_000, False)])
def test_a_tar_reader_gets_no_more_of_a_header_than_is_allowed(length: int, fits: bool) -> None:
    reading = stream(_name_of(length), None)
    with reading.header(64 * 1024):  # the first one is read while the archive is opened
        if fits:
            with tarfile.TarFile(fileobj=reading) as tar:
                assert len(tar.getnames()[0]) == length
        else:
            with pytest.raises(GrowsBeyondReason):
                tarfile.TarFile(fileobj=reading)
    assert reading.tell() <= 128 * 1024
