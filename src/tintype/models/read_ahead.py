"""Reads a transformer's files while photos are encoded, so that loading it afterwards finds them in memory.

Only the disk's part overlaps. Loading itself cannot run beside encoding: diffusers and transformers change torch's
default precision for the whole process meanwhile, and features would come out differently.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PIECE = 16 * 2**20
_SPARE = 0.5  # of the free memory; what the system keeps of a file it drops as soon as something else needs the room


@contextmanager
def read_ahead(folder: Path) -> Iterator[None]:
    """Meanwhile a thread reads the weights in `folder`, if memory has room for them; it has ended afterwards."""
    files = sorted(folder.glob("*.safetensors"))
    if sum(path.stat().st_size for path in files) > psutil.virtual_memory().available * _SPARE:
        files = []
    enough = threading.Event()
    thread = threading.Thread(target=_read, args=(files, enough), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _read(files: list[Path], enough: threading.Event) -> None:
    piece = bytearray(_PIECE)
    for path in files:
        try:
            with path.open("rb", buffering=0) as file:
                while not enough.is_set() and file.readinto(piece):
                    pass
        except OSError:
            return  # loading will say what is wrong
