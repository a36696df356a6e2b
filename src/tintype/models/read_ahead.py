"""Reads weights from disk while something else computes, so that loading them finds them in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tintype.devices import free_bytes
from tintype.models.contents import Part

_READ_BYTES = 16 * 2**20
_READ_AHEAD_SHARE = 0.5  # of the free memory; what the system keeps of a file it drops when something needs the room


@contextmanager
def read_ahead(place: Path) -> Iterator[None]:
    """Reads a part's weights in a thread meanwhile, if memory has room for them; it has ended afterwards."""
    files = Part(place).files
    if sum(path.stat().st_size for path in files) > free_bytes() * _READ_AHEAD_SHARE:
        files = []
    enough = threading.Event()

    def read() -> None:
        piece = bytearray(_READ_BYTES)
        for path in files:
            try:
                with path.open("rb", buffering=0) as file:
                    while not enough.is_set() and file.readinto(piece):
                        pass
            except OSError:
                return  # loading will say what is wrong

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
