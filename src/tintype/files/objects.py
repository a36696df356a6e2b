"""Where files lie: a folder or a bucket, behind obstore, with one difference that matters.

A file that was answered as stored has to survive a crash, and obstore's folder does not fsync. So writing to a folder
is done here (write aside, fsync, rename, fsync the folder); everything else, and every bucket, is obstore's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import anyio.to_thread
import obstore
from obstore.store import LocalStore, MemoryStore, from_url

from tintype.errors import StorageFull

CHUNK = 256 * 1024  # bytes read from storage at a time
_KEY = re.compile(r"[A-Za-z0-9_-]+/[\w.-]+")
_ASIDE = ".incoming"  # beside the objects, so that a rename stays within one file system


class Objects:
    """Immutable blobs under keys `<id>/<file name>`. Reads raise FileNotFoundError for a key that is not there."""

    def __init__(self, store: Any, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, storage_url: str) -> Self:
        """`s3://bucket/prefix` (any URL obstore knows), `memory:`, or the path of a folder."""
        if storage_url == "memory:":
            return cls(MemoryStore())
        if "://" in storage_url:
            return cls(from_url(storage_url))
        folder = Path(storage_url).resolve()
        (folder / _ASIDE).mkdir(parents=True, exist_ok=True)
        return cls(LocalStore(folder, automatic_cleanup=True), folder)

    # --- writing ----------------------------------------------------------------------------------------------
    def put_bytes(self, key: str, data: bytes) -> int:
        """Stores `data` durably; returns its size. Raises StorageFull."""
        return self.put_chunks(key, (data,))

    def put_chunks(self, key: str, chunks: Iterable[bytes]) -> int:
        """Stores a stream durably; returns its size. Raises StorageFull."""
        if self._folder is not None:
            return self._keep(key, lambda file: sum(file.write(chunk) for chunk in chunks))
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        obstore.put(self._store, _checked(key), counted())
        return size

    def put_path(self, key: str, path: Path, *, move: bool = False) -> int:
        """Stores a file durably; with `move` the original is given up, which is free on one file system."""
        size = path.stat().st_size
        if self._folder is None:
            obstore.put(self._store, _checked(key), path)
        elif not (move and self._take(key, path)):
            with path.open("rb") as source:
                self._keep(key, lambda file: shutil.copyfileobj(source, file, 1024 * 1024))
        if move:
            path.unlink(missing_ok=True)
        return size

    async def put_path_async(self, key: str, path: Path, *, move: bool = False) -> int:
        """As put_path, off the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.put_path(key, path, move=move))

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, _checked(key))

    # --- reading ----------------------------------------------------------------------------------------------
    def size(self, key: str) -> int | None:
        """Bytes, or None when there is no such object."""
        try:
            return int(obstore.head(self._store, _checked(key))["size"])
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""
        if end is not None and end <= start:
            return
        answer = obstore.get(self._store, _checked(key), options=_range(start, end))
        for chunk in answer.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    async def read_async(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """As read."""
        if end is not None and end <= start:
            return
        answer = await obstore.get_async(self._store, _checked(key), options=_range(start, end))
        async for chunk in answer.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    def copy_to(self, key: str, path: Path) -> int:
        """A read-only local copy at `path` (in a folder: another name of the same file, which costs nothing)."""
        if self._folder is not None:
            source = self._folder / _checked(key)
            with contextlib.suppress(OSError):  # another file system, or one without hard links: copied below
                os.link(source, path)
                return path.stat().st_size
        with path.open("wb") as file:
            return sum(file.write(chunk) for chunk in self.read(key))

    # --- the folder's own durability --------------------------------------------------------------------------
    def _keep(self, key: str, write: Callable[[BinaryIO], object]) -> int:
        assert self._folder is not None
        handle, name = tempfile.mkstemp(dir=self._folder / _ASIDE)
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            self._publish(key, aside)
        except OSError as problem:
            raise storage_problem(problem) from problem
        finally:
            aside.unlink(missing_ok=True)
        return size

    def _take(self, key: str, path: Path) -> bool:
        """Moves a file in, if it lies on the folder's own file system."""
        assert self._folder is not None
        with path.open("rb") as file:
            os.fsync(file.fileno())
        try:
            self._publish(key, path)
        except OSError as problem:
            if problem.errno == errno.EXDEV:
                return False
            raise storage_problem(problem) from problem
        return True

    def _publish(self, key: str, path: Path) -> None:
        assert self._folder is not None
        target = self._folder / _checked(key)
        target.parent.mkdir(exist_ok=True)
        os.chmod(path, 0o644)
        os.replace(path, target)
        sync_folder(target.parent)
        sync_folder(self._folder)


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_problem(problem: OSError) -> Exception:
    """A full disk as an answer a person can act on; anything else as it was."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            "The disk of this server is full.", remedy="Free space where its data lies, or set TINTYPE_STORAGE."
        )
    return problem


def _range(start: int, end: int | None) -> dict[str, object]:
    if end is None:
        return {"range": {"offset": start}} if start else {}
    return {"range": (start, end)}


def _checked(key: str) -> str:
    """Keys are made from ids and safe names; anything else would be a fault of ours worth stopping at."""
    if _KEY.fullmatch(key) is None or "/." in key:
        raise ValueError(f"not an object key: {key!r}")
    return key
