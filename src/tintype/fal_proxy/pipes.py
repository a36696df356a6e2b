"""Bytes from one connection to another, and connections that end without a word left behind."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

CHUNK = 64 * 1024


async def copy(reader: StreamReader, writer: StreamWriter) -> None:
    """Until the reader's end, which the writer is told of where it can be."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def splice(one: tuple[StreamReader, StreamWriter], other: tuple[StreamReader, StreamWriter]) -> None:
    """Both ways, each until its own end."""
    try:
        await asyncio.gather(copy(one[0], other[1]), copy(other[0], one[1]))
    finally:
        await close(one[1])
        await close(other[1])


async def close(writer: StreamWriter) -> None:
    """Gone already is fine."""
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
