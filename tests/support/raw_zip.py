"""Zip archives that do not say how their names are encoded, as Windows' own packer and many older ones write them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path


def raw_zip(path: Path, members: Sequence[tuple[bytes, bytes]], extra: bytes = b"", flags: int = 0) -> Path:
    """A stored zip of (name, content), each with the same extra field in the directory."""
    body, directory = bytearray(), bytearray()
    for name, data in members:
        sizes = struct.pack(
            "<HHHHHIIIHH", 20, flags, 0, 0, 0x5A21, zlib.crc32(data), len(data), len(data), len(name), 0
        )
        directory += b"PK\1\2\x14\0" + sizes[:-2] + struct.pack("<HHHHII", len(extra), 0, 0, 0, 0, len(body))
        directory += name + extra
        body += b"PK\3\4" + sizes + name + data
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\5\6" + end)
    return path
