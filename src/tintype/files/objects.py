"""Where files lie: a folder or a bucket, behind obstore, with one difference that matters.

A file that was answered as stored has to survive a crash, and obstore's folder does not fsync. So writing to a folder
is done here (write aside, fsync, rename, fsync the folder); everything else, and every bucket, is obstore's. It takes
a bucket's credentials and endpoint from the environment, under the names that the cloud's own tools use.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import anyio.to_thread
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from tintype.errors import SettingsError, StorageUnavailable
from tintype.files.disk import write_pieces, writing

CHUNK = 256 * 1024  # bytes read from storage at a time
_PIECE = 1024 * 1024  # bytes copied at a time
_PARTS_AT_ONCE = 3  # of 5 MiB each on their way to a bucket, all of them in memory
_KEY = re.compile(r"[A-Za-z0-9_-]+/[\w.-]+")
_ASIDE = ".incoming"  # beside the objects, so that a rename stays within one file system


class Objects:
    """Immutable blobs under keys `<id>/<file name>`. Reads raise FileNotFoundError for a key that is not there, and
    everything raises StorageUnavailable where a bucket does not answer or refuses."""

    def __init__(self, store: Any, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, storage_url: str) -> Self:
        """Opens `s3://bucket/prefix` (any URL obstore knows), `memory:`, or a folder. Raises SettingsError."""
        if storage_url == "memory:":
            return cls(MemoryStore())
        if "://" in storage_url:
            try:
                return cls(from_url(storage_url))
            except (BaseError, ValueError) as problem:
                raise SettingsError(
                    f"TINTYPE_STORAGE: {storage_url!r} cannot be used. {str(problem).splitlines()[0]}.",
                    remedy="Name a folder, or a bucket such as s3://my-bucket/tintype.",
                ) from None
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
            return self._keep(key, chunks)
        size, key = 0, _checked(key)

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        with _bucket(writes=True):
            obstore.put(self._store, key, counted(), max_concurrency=_PARTS_AT_ONCE)
        return size

    def put_path(self, key: str, path: Path, *, move: bool = False) -> int:
        """Stores a file durably; with `move` the original is given up, which is free on one file system."""
        size = path.stat().st_size
        if self._folder is None:
            key = _checked(key)
            with _bucket(writes=True):
                obstore.put(self._store, key, path, max_concurrency=_PARTS_AT_ONCE)
        elif not (move and self._take(key, path)):
            with path.open("rb") as source:
                self._keep(key, iter(lambda: source.read(_PIECE), b""))
        if move:
            path.unlink(missing_ok=True)
        return size

    async def put_path_async(self, key: str, path: Path, *, move: bool = False) -> int:
        """Stores as `put_path` does, off the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.put_path(key, path, move=move))

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError), _bucket():
            obstore.delete(self._store, _checked(key))

    # --- reading ----------------------------------------------------------------------------------------------
    def size(self, key: str) -> int | None:
        """Tells how many bytes an object has, or None when there is no such object."""
        try:
            with _bucket():
                return int(obstore.head(self._store, _checked(key))["size"])
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Reads the bytes from `start` up to, not including, `end`."""
        if end is not None and end <= start:
            return
        with _bucket():
            answer = obstore.get(self._store, _checked(key), options=_range(start, end))
            for chunk in answer.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    async def read_async(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Reads as `read` does, in an event loop."""
        if end is not None and end <= start:
            return
        with _bucket():
            answer = await obstore.get_async(self._store, _checked(key), options=_range(start, end))
            async for chunk in answer.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def holds(self, key: str, path: Path) -> bool:
        """Tells whether an object is there and has the bytes of a file."""
        if self.size(key) != path.stat().st_size:
            return False
        with path.open("rb") as file:
            return all(chunk == file.read(len(chunk)) for chunk in self.read(key))

    def copy_to(self, key: str, path: Path) -> int:
        """Makes a read-only local copy at `path` (in a folder: another name of the same file, which costs nothing)."""
        if self._folder is not None:
            source = self._folder / _checked(key)
            with contextlib.suppress(OSError):  # another file system, or one without hard links: copied below
                os.link(source, path)
                return path.stat().st_size
        with writing(path.parent), path.open("wb") as file:
            return write_pieces(file, self.read(key), path.parent)

    # --- looking after it ------------------------------------------------------------------------------------
    def older_than(self, seconds: float) -> Iterator[list[str]]:
        """Lists the keys of all objects that were stored longer ago, in batches."""
        ends = time.time() - seconds
        with _bucket():
            for batch in obstore.list(self._store):
                keys = [entry["path"] for entry in batch if entry["last_modified"].timestamp() < ends]
                yield [key for key in keys if _KEY.fullmatch(key) and not key.startswith(f"{_ASIDE}/")]

    def under(self, folder: str) -> list[str]:
        """Lists the keys of all objects `<folder>/…`."""
        with _bucket():
            return [entry["path"] for batch in obstore.list(self._store, f"{folder}/") for entry in batch]

    def last_stored(self) -> dict[str, float]:
        """Tells for each id when its newest object was stored (unix seconds)."""
        newest: dict[str, float] = {}
        with _bucket():
            for batch in obstore.list(self._store):
                for entry in batch:
                    if _KEY.fullmatch(entry["path"]) and not entry["path"].startswith(f"{_ASIDE}/"):
                        id = entry["path"].partition("/")[0]
                        newest[id] = max(newest.get(id, 0.0), entry["last_modified"].timestamp())
        return newest

    def discard_unfinished(self, older_than: float) -> int:
        """Removes what writes that were killed left aside, untouched for so many seconds. Returns how many. (A bucket
        drops unfinished writes by a rule of its own.)"""
        if self._folder is None:
            return 0
        ends, removed = time.time() - older_than, 0
        for path in (self._folder / _ASIDE).iterdir():
            with contextlib.suppress(FileNotFoundError):  # its writer was alive after all
                if path.stat().st_mtime < ends:
                    path.unlink()
                    removed += 1
        return removed

    # --- the folder's own durability --------------------------------------------------------------------------
    def _keep(self, key: str, pieces: Iterable[bytes]) -> int:
        assert self._folder is not None
        handle, aside = new_incoming(self._folder / _ASIDE, "object-")
        try:
            with writing(self._folder):
                with os.fdopen(handle, "wb") as file:
                    size = write_pieces(file, pieces, self._folder)
                    file.flush()
                    os.fsync(file.fileno())
                self._publish(key, aside)
        finally:
            aside.unlink(missing_ok=True)
        return size

    def _take(self, key: str, path: Path) -> bool:
        """Moves a file in, if it lies on the folder's own file system."""
        assert self._folder is not None
        with path.open("rb") as file:
            os.fsync(file.fileno())
        try:
            with writing(self._folder):
                self._publish(key, path)
        except OSError as problem:
            if problem.errno == errno.EXDEV:
                return False
            raise
        return True

    def _publish(self, key: str, path: Path) -> None:
        assert self._folder is not None
        target = self._folder / _checked(key)
        target.parent.mkdir(exist_ok=True)
        os.chmod(path, 0o600)
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


def new_incoming(folder: Path, prefix: str) -> tuple[int, Path]:
    """Opens a new file in `folder`. Raises StorageFull."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
    return handle, Path(name)


@contextlib.contextmanager
def _bucket(*, writes: bool = False) -> Iterator[None]:
    """Raises StorageUnavailable for a bucket's own troubles. A missing key is one only for a write."""
    try:
        yield
    except BaseError as problem:
        raise _unavailable(problem) from problem
    except FileNotFoundError as problem:
        if writes:
            raise _unavailable(problem) from problem
        raise


def _unavailable(problem: Exception) -> StorageUnavailable:
    return StorageUnavailable(
        f"The storage of this server cannot be used: {str(problem).splitlines()[0][:300]}",
        remedy="Try again; if it stays, look at TINTYPE_STORAGE and the credentials beside it.",
    )


def _range(start: int, end: int | None) -> dict[str, object]:
    if end is None:
        return {"range": {"offset": start}} if start else {}
    return {"range": (start, end)}


def _checked(key: str) -> str:
    """Keys are made from ids and safe names; anything else would be a fault of ours worth stopping at."""
    if _KEY.fullmatch(key) is None or "/." in key:
        raise ValueError(f"not an object key: {key!r}")
    return key
