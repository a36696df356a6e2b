"""Opens an archive that a stranger made, and takes nothing from it but plain files of bounded size.

Names inside the archive never become paths: what is unpacked lies under numbers of our own, so a member called
`../../.bashrc`, a link, or a device cannot reach anything. Sizes are counted while unpacking, because what an archive
says about itself may be a lie. Files come out one at a time, so that the first is decoded while the next is unpacked
and a dataset of any size needs little room.
"""

from __future__ import annotations

import errno
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from tintype.dataset.bounded_stream import PIECE, BoundedStream, GrowsBeyondReason, compression_of
from tintype.dataset.names import NameDecoder, is_junk, shown
from tintype.errors import FileTooLarge, InvalidArchive, StorageFull, TooManyFiles

MIB = 1024 * 1024

SUPPORTED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_UTF8_NAME = 0x800  # zip flag: the name is UTF-8
# What people send instead of an archive, by its first bytes.
_LOOKS_LIKE = (
    (b"Rar!", "a RAR archive"), (b"7z\xbc\xaf", "a 7z archive"), (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\xff\xd8\xff", "a single JPEG picture"), (b"\x89PNG", "a single PNG picture"), (b"%PDF", "a PDF document"),
    (b"<", "a web page"), (b"{", "JSON text"),
)  # fmt: skip
_COMPRESSION_OF_TAR = {"tar": None, "tar.gz": "gz", "tgz": "gz", "tar.bz2": "bz2", "tar.xz": "xz"}
_LONGEST_HEADER = 64 * 1024  # bytes of a tar's header with all its extensions
_ENTRIES_PER_FILE = 4  # folders and the like that an archive may hold for each file that it may hold
_LONGEST_DIRECTORY = 4 * MIB  # of a zip, which is kept in memory as a whole
_UNICODE_PATH = 0x7075  # a zip's extra field: the name in UTF-8, beside one in the maker's own code page
# What may spell out names of pictures, and how much of it is read to find out how names are encoded.
_TABLES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
_TABLE_BYTES, _TABLES_BYTES = 256 * 1024, 4 * MIB
_ORDINARY = "Send an archive of ordinary photos."
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
    EOFError, OSError, ValueError, NotImplementedError,
)  # fmt: skip


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
    decoded where the archive does not say.
    """

    name: str
    path: Path | None
    state: Literal["file", "junk", "left"] = "file"
    reason: str = ""
    identity: str = ""
    encoding: str | None = None

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


@dataclass(frozen=True)
class _Entry:
    name: str | bytes  # bytes where the archive does not say how it is encoded
    encrypted: bool
    link: bool
    source: Any  # what the archive's own reader wants back to open it


_Opener = Callable[[Any], IO[bytes] | None]


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
    allowed = min(limits.total_bytes, limits.free_growth_bytes + limits.growth_factor * path.stat().st_size)
    try:
        with path.open("rb") as file:
            if form == "zip" or (form is None and zipfile.is_zipfile(file)):
                _check_directory(file, limits)
                with zipfile.ZipFile(file) as archive:
                    names = NameDecoder(lambda: _listed(_zip_entries(archive), archive.open))
                    yield from _take(_zip_entries(archive), archive.open, names, folder, limits, allowed, check)
                return
            names = NameDecoder(lambda: _listed_tar(path, form, limits, allowed, check))
            with _opened_tar(file, form, allowed, check) as (tar, stream):
                entries = _tar_entries(tar, stream, limits)
                yield from _take(entries, tar.extractfile, names, folder, limits, allowed, check)
    except GrowsBeyondReason as problem:
        raise _invalid(f"The archive is far larger than it looks: {problem}.", _ORDINARY) from None
    except _DAMAGED as problem:
        raise _unreadable(path, form, problem) from None


@contextmanager
def _opened_tar(
    file: IO[bytes], form: str | None, allowed: int, check: Callable[[], None]
) -> Iterator[tuple[tarfile.TarFile, BoundedStream]]:
    file.seek(0)
    compression = compression_of(file.read(8))
    file.seek(0)
    if form and compression != _COMPRESSION_OF_TAR[form]:
        raise tarfile.ReadError(f"it is not a {form}")
    stream = BoundedStream(file, compression, most=allowed, check=check)
    with ExitStack() as stack:
        with stream.header(_LONGEST_HEADER):  # the first one is read here
            tar = stack.enter_context(tarfile.TarFile(fileobj=stream, encoding="utf-8"))
        yield tar, stream


def _listed(entries: Iterator[_Entry], opened: _Opener) -> Iterator[tuple[bytes, bytes]]:
    """The undeclared name of each entry (b"" for a declared one), and what of it may spell out names of pictures."""
    left = _TABLES_BYTES
    for entry in entries:
        raw = entry.name.encode() if isinstance(entry.name, str) else entry.name
        table = b""
        if left > 0 and raw.lower().endswith(tuple(suffix.encode() for suffix in _TABLES)) and not entry.encrypted:
            with suppress(*_DAMAGED), opened(entry.source) or io.BytesIO() as source:
                table = source.read(_TABLE_BYTES)
                left -= len(table)
        yield b"" if isinstance(entry.name, str) else raw, table


def _listed_tar(
    path: Path, form: str | None, limits: Limits, allowed: int, check: Callable[[], None]
) -> Iterator[tuple[bytes, bytes]]:
    """The same for a tar, which has no directory: it is read once more for it."""
    with path.open("rb") as file, _opened_tar(file, form, allowed, check) as (tar, stream):
        yield from _listed(_tar_entries(tar, stream, limits), tar.extractfile)


def _check_directory(file: IO[bytes], limits: Limits) -> None:
    """Refuses a zip by what its end record says, before its reader keeps an object for each entry in memory."""
    # The reader's own function: what it will read is what is checked, whatever else the file holds.
    record = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if record is None:
        return
    entries, directory_bytes = record[zipfile._ECD_ENTRIES_TOTAL], record[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
    if entries > limits.files * _ENTRIES_PER_FILE:
        raise _too_many(limits, entries)
    if directory_bytes > _LONGEST_DIRECTORY:
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
        head = file.read(512)
    is_tar = compression_of(head) or head[257:262] == b"ustar"
    archive = "zip" if head.startswith(b"PK\x03\x04") else "tar" if is_tar else None
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
    seen = next((kind for start, kind in _LOOKS_LIKE if head.lstrip().startswith(start)), None)
    return _invalid(
        f"The file cannot be opened as a {form or 'zip or tar'} archive" + (f"; it looks like {seen}." if seen else ".")
    )


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.compress_type not in _COMPRESSIONS:
            raise _invalid(f"{info.filename} is compressed by a method that is not read here.")
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        yield _Entry(_zip_name(info), bool(info.flag_bits & 0x1), is_link, info)


def _zip_name(info: zipfile.ZipInfo) -> str | bytes:
    """The name as text where the archive says what it is: by the flag, or in a field of its own."""
    if info.flag_bits & _UTF8_NAME:
        return info.filename
    raw = info.orig_filename.encode("cp437").split(b"\0")[0]  # the bytes that its reader saw
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _UNICODE_PATH and extra[5:9] == struct.pack("<I", zlib.crc32(raw)):
            with suppress(UnicodeDecodeError):
                return extra[9 : 4 + size].decode()
        extra = extra[4 + size :]
    return raw


def _tar_entries(tar: tarfile.TarFile, stream: BoundedStream, limits: Limits) -> Iterator[_Entry]:
    most = limits.files * _ENTRIES_PER_FILE
    for _ in range(most):
        with stream.header(_LONGEST_HEADER):
            info = tar.next()
        if info is None:
            return
        if not info.isdir():
            raw = info.name.encode("utf-8", "surrogateescape")
            yield _Entry(info.name if "path" in info.pax_headers else raw, False, not info.isreg(), info)
    raise _too_many(limits, most + 1)


def _take(
    entries: Iterator[_Entry],
    opened: _Opener,
    names: NameDecoder,
    folder: Path,
    limits: Limits,
    allowed: int,
    check: Callable[[], None],
) -> Iterator[Member]:
    total = 0
    taken: set[str] = set()
    for seen, entry in enumerate(entries):
        if seen >= limits.files:
            raise _too_many(limits, seen + 1)
        decoded, encoding = names.decoded(entry.name)
        identity = _checked_name(decoded, entry)
        name = shown(identity, taken)
        taken.add(name)
        if is_junk(identity):
            yield Member(name, None, "junk", "hidden, or left there by a computer or photo service", identity, encoding)
        elif reason := _refusal(entry, name):
            yield Member(name, None, "left", reason, identity, encoding)
        else:
            place = folder / f"{seen:05d}"
            total += _copy(opened(entry.source), place, name, limits.file_bytes, allowed - total, check)
            yield Member(name, place, identity=identity, encoding=encoding)


def _checked_name(decoded: str, entry: _Entry) -> str:
    """The member's name with forward slashes. Raises InvalidArchive when it points outside or the member is locked."""
    name = decoded.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")) or "\0" in name:
        raise _invalid(f"The archive names a file outside itself ({name[:100]!r}).")
    if entry.encrypted:
        raise _invalid("The archive is protected by a password.", "Make it again without one.")
    return str(PurePosixPath(name))


def _refusal(entry: _Entry, name: str) -> str:
    if entry.link:
        return "a link or device, not a file"
    if name.lower().endswith(NESTED):
        return "an archive inside the archive; only the outer one is opened"
    return ""


def _copy(source: IO[bytes] | None, place: Path, name: str, most: int, left: int, check: Callable[[], None]) -> int:
    """Writes one member to `place`, counting; bytes written."""
    if source is None:
        raise _invalid(f"{name} cannot be read.")
    written = 0
    with source, place.open("wb") as target:
        while chunk := source.read(PIECE):
            check()
            written += len(chunk)
            if written > most:
                raise FileTooLarge(
                    f"{name} is larger than {most // MIB} MiB.",
                    remedy="Send it as a JPEG of usual size.",
                    ctx={"max_size": most},
                )
            if written > left:
                raise _invalid("Unpacked, the archive is far larger than it looks.", _ORDINARY)
            _write(target, chunk)
    return written


def _write(target: IO[bytes], chunk: bytes) -> None:
    try:
        target.write(chunk)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):  # ours to mend, not a fault of the archive
            raise StorageFull("The disk has no room to unpack the photos.", remedy="Free some space there.") from None
        raise


def _invalid(message: str, remedy: str = "Send a .zip or .tar archive of photos.") -> InvalidArchive:
    return InvalidArchive(message, remedy=remedy, ctx={"supported_extensions": list(SUPPORTED)})
