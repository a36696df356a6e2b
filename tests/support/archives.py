"""Archives as programs leave them and Python's own writers would not: each field of a zip can be set right or wrong."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import inflate64

from tintype.dataset.archive import Limits, Member, members

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TAR_FORMS = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    """A tar archive at `path`."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpack(path: Path, folder: Path, form: str | None = None, limits: Limits | None = None) -> list[Member]:
    """Everything that an archive holds."""
    return list(members(path, folder, form=form, limits=limits))


def names(path: Path, tmp_path: Path, form: str | None = None, state: str = "file") -> list[str]:
    """The names of what is in this state, in the archive's order."""
    return [member.name for member in unpack(path, tmp_path / "out", form=form) if member.state == state]


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def _deflated64(content: bytes) -> bytes:
    packer = inflate64.Deflater()
    return packer.deflate(content) + packer.flush()


def _lzma(content: bytes) -> bytes:
    packed = lzma.compress(content, lzma.FORMAT_ALONE)
    return struct.pack("<HH", 9 << 8 | 20, 5) + packed[:5] + packed[13:]


def zstandard(content: bytes) -> bytes:
    """As the program does it, with a checksum."""
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


# By the number that a zip has for it.
METHODS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    8: _deflated,
    9: _deflated64,
    12: bz2.compress,
    14: _lzma,
    20: zstd.compress,
    93: zstd.compress,
    95: lzma.compress,
}


@dataclass(frozen=True)
class RawMember:
    """Says what a zip holds of one file; `own_name` and `own_extra` stand before it, the others in the list."""

    name: bytes
    content: bytes = b"x"
    own_name: bytes | None = None
    method: int = 0
    packed: bytes | None = None
    checksum: int | None = None
    flags: int = 0
    extra: bytes = b""
    own_extra: bytes = b""
    shift: int = 0  # how far from its true place it is said to be
    attributes: int = 0


def raw_zip(
    files: Sequence[RawMember], *, before: bytes = b"", between: bytes = b"", comment: bytes = b"", after: bytes = b""
) -> bytes:
    """Gives a zip archive's content; `before` and `between` are nowhere counted."""
    body, directory = bytearray(), bytearray()
    for member in files:
        packed = METHODS.get(member.method, bytes)(member.content) if member.packed is None else member.packed
        checksum = zlib.crc32(member.content) if member.checksum is None else member.checksum
        numbers = (20, member.flags, member.method, 0, 0x5A21, checksum, len(packed), len(member.content))
        own_name = member.name if member.own_name is None else member.own_name
        place = len(body) + member.shift
        body += b"PK\3\4" + struct.pack("<HHHHHIII", *numbers)
        body += struct.pack("<HH", len(own_name), len(member.own_extra)) + own_name + member.own_extra + packed
        directory += b"PK\1\2\x14\0" + struct.pack("<HHHHHIII", *numbers)
        directory += struct.pack("<HHHHHII", len(member.name), len(member.extra), 0, 0, 0, member.attributes, place)
        directory += member.name + member.extra
    count = len(files)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), len(comment))
    return before + body + directory + between + b"PK\5\6" + end + comment + after
