"""Opens an archive that a stranger made, and takes nothing from it but plain files of bounded size.

Names inside the archive never become paths: what is unpacked lies under numbers of our own, so a member called
`../../.bashrc`, a link, or a device cannot reach anything. Sizes are counted while unpacking, because what an archive
says about itself may be a lie. Files come out one at a time, so that the first is decoded while the next is unpacked
and a dataset of any size needs little room.
"""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from tintype.dataset.archive_entry import LOCKED, Entry, TooManyEntries, UnreadableMember
from tintype.dataset.bounded_stream import DAMAGED_STREAM, BoundedStream, GrowsBeyondReason, compression_of
from tintype.dataset.file_kind import HEAD, archive_kind, kind_of
from tintype.dataset.names import NameDecoder, is_junk, shown
from tintype.dataset.tar_archive import NoTar, tar_entries
from tintype.dataset.zip_archive import LONGEST_DIRECTORY, EndRecord, end_record, zip_entries
from tintype.errors import FileTooLarge, InvalidArchive, TooManyFiles
from tintype.files.disk import write_pieces, writing

MIB = 1024 * 1024

SUPPORTED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ZIP = b"PK\x03\x04"
_COMPRESSION_OF_TAR = {"tar": None, "tar.gz": "gz", "tgz": "gz", "tar.bz2": "bz2", "tar.xz": "xz"}
_ENTRIES_PER_FILE = 4  # folders and the like that an archive may hold for each file that it may hold
_SEND = "Send a .zip or .tar archive of photos."
# What may spell out names of pictures, and how much of it is read to find out how names are encoded.
_TABLES = (b".json", b".jsonl", b".ndjson", b".csv", b".tsv")
_TABLES_BYTES = 4 * MIB
_ORDINARY = "Send an archive of ordinary photos."

_DAMAGED = (*DAMAGED_STREAM, zipfile.BadZipFile, tarfile.TarError, ValueError, OverflowError, struct.error)


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold. Sizes are bytes after unpacking."""

    files: int = 5000
    file_bytes: int = 256 * MIB
    total_bytes: int = 4096 * MIB
    # An archive may grow this much in any case, and beyond it by no more than this factor.
    free_growth_bytes: int = 256 * MIB
    growth_factor: int = 200
    pixels: int = 120_000_000
    pictures: int = 2000


@dataclass(frozen=True)
class Member:
    """A file of the archive: its name there (for people, never a path), and where it lies now or why it does not.

    No two members have one `name`; `identity` is what the archive calls it, whole. `encoding` is how its name was
    decoded where the archive does not say. `crop` is what a person chose of a photo, as shares of its width and height.
    """

    name: str
    path: Path | None
    state: Literal["file", "junk", "left"] = "file"
    reason: str = ""
    identity: str = ""
    encoding: str | None = None
    crop: tuple[float, float, float, float] | None = None

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.strip().lower()


def members(
    path: Path,
    folder: Path,
    *,
    form: str | None = None,
    limits: Limits | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Member]:
    """Unpacks a zip or tar archive into `folder`, one member at a time; whoever takes a file may delete it.

    `form` is a `data_archive_format`, guessed from the bytes when None. `check` is called before every piece that is
    read, also of what is passed over, and may raise. Raises InvalidArchive (not an archive, damaged, encrypted, names
    that point outside, grows beyond reason), TooManyFiles or FileTooLarge; StorageFull when the disk is.
    """
    limits = limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    most = min(limits.total_bytes, limits.free_growth_bytes + limits.growth_factor * path.stat().st_size)
    names = NameDecoder(lambda: _listed(path, form, limits, most, check))
    try:
        with path.open("rb") as file:
            entries = _entries(file, form, limits, most, check)
            yield from _take(entries, names, folder, limits, _Copier(limits, most, check))
    except GrowsBeyondReason as problem:
        raise _invalid(f"The archive is far larger than it looks: {problem}.", _ORDINARY) from None
    except TooManyEntries as problem:
        raise _too_many(limits, problem.args[0]) from None
    except _DAMAGED as problem:
        raise _unreadable(path, form, problem) from None


def _entries(
    file: IO[bytes], form: str | None, limits: Limits, most: int, check: Callable[[], None]
) -> Iterator[Entry]:
    head = file.read(HEAD)
    compression = compression_of(head)
    guessed = form is None and not _is_tar(head) and compression is None
    if (form == "zip" or guessed) and (record := end_record(file)) is not None:
        _check_directory(record, limits)
        return zip_entries(file, record)
    if head.startswith(_ZIP) and form in (None, "zip"):
        raise zipfile.BadZipFile("its end is missing")
    if form and compression != _COMPRESSION_OF_TAR.get(form, form):
        raise tarfile.ReadError(f"it is not a {form}")
    file.seek(0)
    stream = BoundedStream(file, compression, most=most, check=check)
    return tar_entries(stream, limits.files * _ENTRIES_PER_FILE, limits.file_bytes)


def _listed(
    path: Path, form: str | None, limits: Limits, most: int, check: Callable[[], None]
) -> Iterator[tuple[bytes, bytes]]:
    """The undeclared name of each entry (b"" for a declared one), and what of it may spell out names of pictures.

    A tar has no directory, so the archive is read once more for it.
    """
    left = _TABLES_BYTES
    with path.open("rb") as file:
        for entry in _entries(file, form, limits, most, check):
            raw = entry.name.encode("utf-8", "replace") if isinstance(entry.name, str) else entry.name
            table = b""
            if left > 0 and raw.lower().endswith(_TABLES) and not entry.reason:
                with suppress(UnreadableMember):
                    table = next(iter(entry.read()), b"")[:left]
                    left -= len(table)
            yield b"" if isinstance(entry.name, str) else raw, table


def _check_directory(record: EndRecord, limits: Limits) -> None:
    """Refuses a zip by what its end record says, before an object for each entry is kept in memory."""
    if record.is_split:
        raise _invalid("This is one part of a zip archive that was split.", "Send it as one file.")
    if record.entries > limits.files * _ENTRIES_PER_FILE:
        raise _too_many(limits, record.entries)
    if record.directory_bytes > LONGEST_DIRECTORY:
        raise _invalid("The list of what the zip archive holds is far too long.", _ORDINARY)


def _too_many(limits: Limits, count: int) -> TooManyFiles:
    return TooManyFiles(
        f"The archive holds more than {limits.files} files.",
        remedy="Send the best photos only; 10 to 30 are plenty for a portrait.",
        ctx={"max_count": limits.files, "provided_count": count},
    )


def _unreadable(path: Path, form: str | None, problem: BaseException) -> InvalidArchive:
    """Says what the file is rather than what a library thinks of it; that may take many lines."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    is_tar = _is_tar(head) or (compression_of(head) and not isinstance(problem, NoTar))
    archive = "zip" if head.startswith(_ZIP) else "tar" if is_tar else None
    if not head:
        return _invalid("The file is empty.")
    if archive and form and archive != form.split(".")[0].replace("tgz", "tar"):
        return _invalid(
            f"data_archive_format says {form}, but the file is a {archive} archive.", "Leave data_archive_format out."
        )
    if archive:
        why = (str(problem).strip() or type(problem).__name__).splitlines()[0][:120]
        return _invalid(
            f"The {archive} archive is damaged or was cut off on its way ({why}).", "Make it again, and send it again."
        )
    kind, remedy = kind_of(head)
    seen = f"; it looks like {kind}." if kind else "."
    return _invalid(f"The file cannot be opened as a {form or 'zip or tar'} archive{seen}", remedy or _SEND)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _take(
    entries: Iterator[Entry], names: NameDecoder, folder: Path, limits: Limits, copier: _Copier
) -> Iterator[Member]:
    taken: set[str] = set()
    locked = read = False
    for seen, entry in enumerate(entries):
        if seen >= limits.files:
            raise _too_many(limits, seen + 1)
        decoded, encoding = names.decoded(entry.name)
        identity = str(PurePosixPath(decoded.replace("\\", "/")))
        reason, name = entry.reason, shown(identity, taken)
        taken.add(name)
        if not reason:
            _check_name(decoded)
        if is_junk(identity):
            yield Member(name, None, "junk", "hidden, or left there by a computer or photo service", identity, encoding)
            continue
        place = folder / f"{seen:05d}"
        if not reason:
            try:
                copier.copy(entry.read(), place, name)
            except UnreadableMember as problem:
                reason = str(problem)
        locked, read = locked or reason == LOCKED, read or not reason
        if reason:
            yield Member(name, None, "left", reason, identity, encoding)
        else:
            yield Member(name, place, identity=identity, encoding=encoding)
    if locked and not read:
        raise _invalid("The archive is protected by a password.", "Make it again without one.")


def _check_name(decoded: str) -> None:
    """Raises InvalidArchive when a name points outside."""
    name = decoded.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")) or "\0" in name:
        raise _invalid(f"The archive names a file outside itself ({name[:100]!r}).")


class _Copier:
    """Writes members to disk, and counts what came out of the archive, also of those that turn out unreadable."""

    def __init__(self, limits: Limits, allowed: int, check: Callable[[], None]) -> None:
        self._most, self._left, self._check = limits.file_bytes, allowed, check

    def copy(self, pieces: Iterable[bytes], place: Path, name: str) -> None:
        """Writes one member to `place`. Raises UnreadableMember, whose file is gone then."""
        written = 0
        try:
            with writing(place.parent), place.open("wb") as target:  # a full disk is no fault of the archive
                for piece in pieces:
                    self._check()
                    if not written and archive_kind(piece[:HEAD]):
                        raise UnreadableMember("an archive inside the archive; only the outer one is opened")
                    written += len(piece)
                    self._left -= len(piece)
                    if written > self._most:
                        raise FileTooLarge(
                            f"{name} is larger than {self._most // MIB} MiB.",
                            remedy="Send it as a JPEG of usual size.",
                            ctx={"max_size": self._most},
                        )
                    if self._left < 0:
                        raise _invalid("Unpacked, the archive is far larger than it looks.", _ORDINARY)
                    write_pieces(target, (piece,), place.parent)
        except UnreadableMember:
            place.unlink()
            raise


def _invalid(message: str, remedy: str = _SEND) -> InvalidArchive:
    return InvalidArchive(message, remedy=remedy, ctx={"supported_extensions": list(SUPPORTED)})
