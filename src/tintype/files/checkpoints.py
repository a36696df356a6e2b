"""Checkpoints of a request outlive the attempt, its process and its machine; sometimes an attempt outlives its lease.

They are objects (`objects.py`), in the folder or the bucket of the installation, so that whoever has the same storage
and database can go on with a request:

    <request>/<step>-<token>-<n>      a file of a checkpoint
    <request>/<step>-<token>.json     which files it has; written last, and only then it is there;
                                  written again when files are added to it
    <request>/owner-<token>           fencing token of the newest attempt

Where storage is a folder a checkpoint is moved in and read by hard links: nothing is copied. An attempt that was
thought dead and still writes gets LeaseLost, and can neither publish nor remove anything that its successor reads.
Attempts on one machine take turns by a lock; between machines the order of these writes has to do.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from tintype.errors import LeaseLost, StorageFull, StorageUnavailable
from tintype.files.disk import is_full
from tintype.files.objects import Objects
from tintype.job import Checkpoint
from tintype.settings import Settings

KEPT = 2  # the newest, and one more in case its content turns out to be unusable
_MANIFEST = re.compile(r"(\d+)-(\d+)\.json")
_PART = re.compile(r"\d+-(\d+)(?:-\d+|\.json)")
_OWNER = re.compile(r"owner-(\d+)")


class ObjectCheckpoints:
    """The CheckpointStore of one attempt. `folder` is its own place on this machine, `request_id` the name in storage.

    Its first use makes `token` the owner, and raises LeaseLost when a newer attempt is the owner already.
    """

    def __init__(
        self, objects: Objects, request_id: str, folder: Path, token: int = 0,
        saved: Callable[[int], None] = lambda step: None,
    ) -> None:  # fmt: skip
        self._objects = objects
        self._request_id = request_id
        self._folder = folder
        self._token = token
        self._saved = saved
        self._lock: FileLock | None = None  # from the first use on
        self._parts: dict[tuple[int, ...], str] = {}  # files that checkpoints share, and where they lie already

    def latest(self) -> Checkpoint | None:
        """Returns the complete checkpoint of the highest step, of any attempt, in a folder that nobody changes."""
        self._take_over()
        for step, manifest in self._complete(self._names()):
            with suppress(FileNotFoundError):  # an attempt of another machine that lost its lease has tidied just now
                return Checkpoint(self._read(manifest), step)
        return None

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Calls `write` with an empty folder, then publishes it atomically. Raises LeaseLost for a late writer, and
        StorageFull when the disk has no room for it."""
        lock = self._take_over()
        if not self._folder.exists():
            raise LeaseLost("This request has ended; its folder is gone.")
        try:
            with tempfile.TemporaryDirectory(prefix="new-", dir=self._folder, ignore_cleanup_errors=True) as written:
                write(Path(written))
                with lock:
                    is_new = self._publish(Path(written), step)
        except Exception as problem:
            if is_full(problem):
                raise StorageFull(
                    "The checkpoint could not be kept, because the disk is full.",
                    remedy="Free some space (`tintype doctor` shows how much there is).",
                ) from problem
            raise
        if is_new:
            self._saved(step)

    def _take_over(self) -> FileLock:
        if self._lock is not None:
            return self._lock
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock")
        with lock:
            names = self._names()
            if _owner(names) > self._token:
                raise LeaseLost("A newer attempt at this request is running.")
            self._objects.put_bytes(self._key(f"owner-{self._token}"), b"")
            for name in names:
                if _OWNER.fullmatch(name) and name != f"owner-{self._token}":
                    self._objects.delete(self._key(name))
            for left in (*self._folder.glob("new-*"), *self._folder.glob("read-*")):
                shutil.rmtree(left, ignore_errors=True)
            for kept in sorted(self._folder.glob("[0-9]*")):  # as versions before kept them, each in its folder
                self._publish(kept, int(kept.name))
                shutil.rmtree(kept)
        self._lock = lock
        return lock

    def _publish(self, written: Path, step: int) -> bool:
        """Publishes what is there; of a step that is safe already, what it has not. Tells whether that was anything."""
        names = self._names()
        self._check_owner(names)
        known = next((manifest for at, manifest in self._complete(names) if at == step), None)
        files = self._files(known) if known else {}
        found = {str(path.relative_to(written)): path for path in sorted(written.rglob("*")) if path.is_file()}
        added = {name: path for name, path in found.items() if name not in files}
        if known and not added:
            return False  # due and draining at one step
        for number, (name, path) in enumerate(added.items(), len(files)):
            files[name] = self._stored(path, f"{step}-{self._token}-{number}")
        self._check_owner(self._names())
        self._objects.put_bytes(self._key(f"{step}-{self._token}.json"), json.dumps(files).encode())
        with suppress(StorageUnavailable):  # the next one tidies as well
            self._tidy()
        return True

    def _stored(self, path: Path, name: str) -> str:
        """Stores a file, or finds it stored: one with a second name here is in earlier checkpoints, and unchanged."""
        identity, has_second_name = _identity(path), path.stat().st_nlink > 1
        if has_second_name and identity in self._parts:
            return self._parts[identity]
        self._objects.put_path(self._key(name), path, move=True)
        if has_second_name:
            self._parts[identity] = name
        return name

    def _read(self, manifest: str) -> Path:
        place = self._folder / f"read-{manifest.removesuffix('.json')}"
        if not place.exists():
            with tempfile.TemporaryDirectory(prefix="new-", dir=self._folder, ignore_cleanup_errors=True) as partial:
                for name, part in self._files(manifest).items():
                    path = Path(partial) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._objects.copy_to(self._key(part), path)
                    self._parts[_identity(path)] = part
                Path(partial).rename(place)
        return place

    def _tidy(self) -> None:
        """Removes what no checkpoint that is kept needs, but nothing of a newer attempt."""
        names = self._names()
        kept = [manifest for _, manifest in self._complete(names)[:KEPT]]
        needed = {*kept, *(part for manifest in kept for part in self._files(manifest).values())}
        for name in sorted(names, key=lambda name: not name.endswith(".json")):  # no reader finds half of one
            match = _PART.fullmatch(name)
            if match and int(match[1]) <= self._token and name not in needed:
                self._objects.delete(self._key(name))

    def _files(self, manifest: str) -> dict[str, str]:
        files: dict[str, str] = json.loads(b"".join(self._objects.read(self._key(manifest))))
        return files

    def _check_owner(self, names: Sequence[str]) -> None:
        if _owner(names) != self._token:
            raise LeaseLost("A newer attempt at this request is running, or it has ended.")

    def _complete(self, names: Sequence[str]) -> list[tuple[int, str]]:
        """Steps and manifests of the complete checkpoints, the newest first."""
        found = [(int(match[1]), int(match[2]), name) for name in names if (match := _MANIFEST.fullmatch(name))]
        return [(step, name) for step, _, name in sorted(found, reverse=True)]

    def _names(self) -> list[str]:
        return [key.rpartition("/")[2] for key in self._objects.under(self._request_id)]

    def _key(self, name: str) -> str:
        return f"{self._request_id}/{name}"


def open_checkpoints(
    settings: Settings, request_id: str, token: int, saved: Callable[[int], None]
) -> ObjectCheckpoints:
    """Returns the checkpoints of a request in the installation's storage."""
    objects = Objects.open(settings.checkpoint_url)
    return ObjectCheckpoints(objects, request_id, settings.work_dir / request_id / "checkpoints", token, saved)


def work_of_requests(settings: Settings) -> dict[str, float]:
    """Returns the ids of requests that have work folders here or checkpoints in storage, and when each last changed."""
    folders = settings.work_dir.iterdir() if settings.work_dir.is_dir() else ()
    changed = Objects.open(settings.checkpoint_url).last_stored()
    for folder in folders:
        with suppress(FileNotFoundError):  # its supervisor was faster
            changed[folder.name] = max(folder.stat().st_mtime, changed.get(folder.name, 0.0))
    return changed


def remove_work(settings: Settings, request_id: str) -> None:
    """Removes the work folder and the checkpoints of a request that nobody will go on with."""
    shutil.rmtree(settings.work_dir / request_id, ignore_errors=True)
    objects = Objects.open(settings.checkpoint_url)
    for key in objects.under(request_id):
        objects.delete(key)


def note_published(settings: Settings, request_id: str, key: str) -> None:
    """Notes an object that an attempt is about to store, and that nothing speaks of until its result does."""
    notes = settings.work_dir / request_id / "published"
    notes.mkdir(parents=True, exist_ok=True)
    (notes / key.partition("/")[0]).write_text(key)


def remove_published(settings: Settings, request_id: str, known: Collection[str] = ()) -> None:
    """Removes what attempts on this machine stored that came to no result; not files with a `known` id."""
    for note in (settings.work_dir / request_id / "published").glob("*"):
        if note.name not in known:
            Objects.open(settings.storage_url).delete(note.read_text())
        note.unlink()


def _owner(names: Sequence[str]) -> int:
    """Token of the newest attempt that took over; -1 for none."""
    return max((int(match[1]) for name in names if (match := _OWNER.fullmatch(name))), default=-1)


def _identity(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
