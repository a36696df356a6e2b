"""A file while it is being received: bytes go to disk as they come, within a limit, and vanish unless they are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterable
from pathlib import Path

import anyio.to_thread

from tintype.errors import PayloadTooLarge
from tintype.files.disk import writing
from tintype.files.objects import new_incoming

_BATCH = 1024 * 1024  # bytes gathered before a thread is asked to write them


def check_size(size: int, limit: int, remedy: str) -> None:
    """Raises PayloadTooLarge for more bytes than are taken."""
    if size > limit:
        raise PayloadTooLarge(
            f"This is larger than {limit // (1024 * 1024)} MiB, the most that is taken here.", remedy=remedy
        )


class Spool:
    """An incoming file at `path`. `discard` when done, unless the path was moved away. Raises StorageFull."""

    def __init__(self, folder: Path, *, limit: int, remedy: str = "") -> None:
        handle, self.path = new_incoming(folder, "spool-")
        self.size = 0
        self._file = os.fdopen(handle, "wb")
        self._limit = limit
        self._remedy = remedy
        self._digest = hashlib.md5(usedforsecurity=False)

    @property
    def etag(self) -> str:
        """Returns the quoted digest of what was received, as S3 and fal's clients know it."""
        return f'"{self._digest.hexdigest()}"'

    def write(self, data: bytes) -> None:
        """Takes the next bytes. Raises PayloadTooLarge over the limit, StorageFull when the disk is full."""
        self.size += len(data)
        check_size(self.size, self._limit, self._remedy)
        self._digest.update(data)
        with writing(self.path.parent, len(data)):
            self._file.write(data)

    async def receive(self, stream: AsyncIterable[bytes]) -> None:
        """Writes everything that `stream` brings, off the event loop; then it is on disk for good."""
        batch = bytearray()
        async for chunk in stream:
            batch += chunk
            if len(batch) >= _BATCH:
                full, batch = bytes(batch), bytearray()
                await anyio.to_thread.run_sync(self.write, full)
        await anyio.to_thread.run_sync(self._last, bytes(batch))

    def _last(self, data: bytes) -> None:
        self.write(data)
        self.finish()

    def finish(self) -> None:
        """Flushes to disk and closes."""
        with writing(self.path.parent):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Closes and removes; harmless when the file was moved away."""
        with contextlib.suppress(OSError):  # what a full disk did not take is still in the buffer
            self._file.close()
        self.path.unlink(missing_ok=True)
