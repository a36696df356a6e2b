"""Opens an archive that a stranger made, and takes nothing from it but plain files of bounded size.

Names inside the archive never become paths: what is unpacked lies under numbers of our own, so a member called
`../../.bashrc`, a link, or a device cannot reach anything. Sizes are counted while unpacking, because what an archive
says about itself may be a lie.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from tintype.errors import FileTooLarge, InvalidArchive, TooManyFiles

LOC = ("body", "images_data_url")
MIB = 1024 * 1024

SUPPORTED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_JUNK = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_TAR_MODES = {"tar": "r:", "tar.gz": "r:gz", "tgz": "r:gz", "tar.bz2": "r:bz2", "tar.xz": "r:xz"}
_CHUNK = 256 * 1024
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
    EOFError, OSError, ValueError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold. Sizes are bytes after unpacking."""

    files: int = 2000
    file_bytes: int = 256 * MIB
    total_bytes: int = 4096 * MIB
    # An archive may grow this much in any case, and beyond it by no more than this factor.
    free_growth_bytes: int = 256 * MIB
    growth_factor: int = 200
    pixels: int = 120_000_000
    pictures: int = 300


@dataclass(frozen=True)
class Member:
    """A file that was unpacked: its name in the archive (for people, never a path) and where it lies now."""

    name: str
    path: Path

    @property
    def stem(self) -> str:
        """Folder and name without the last suffix: what a picture and its caption have in common."""
        return str(PurePosixPath(self.name).with_suffix(""))

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


@dataclass
class Unpacked:
    """What came out of an archive, and what was left in it, by name with the reason."""

    members: list[Member] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Entry:
    name: str
    encrypted: bool
    link: bool
    source: zipfile.ZipInfo | tarfile.TarInfo


def unpack(path: Path, folder: Path, *, form: str | None = None, limits: Limits | None = None) -> Unpacked:
    """Unpacks a zip or tar archive into `folder`; `form` is a `data_archive_format`, guessed from the bytes when None.

    Raises InvalidArchive (not an archive, damaged, encrypted, names that point outside, grows beyond reason),
    TooManyFiles or FileTooLarge, at `images_data_url`.
    """
    limits = limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if form == "zip" or (form is None and zipfile.is_zipfile(path)):
            with zipfile.ZipFile(path) as archive:
                return _take(_zip_entries(archive), archive.open, path, folder, limits)
        with tarfile.open(path, _TAR_MODES[form] if form else "r:*") as tar:  # type: ignore[call-overload]
            return _take(_tar_entries(tar), tar.extractfile, path, folder, limits)
    except _DAMAGED as problem:
        said = form or "zip or tar"
        raise _invalid(
            f"The file cannot be opened as a {said} archive ({problem or type(problem).__name__})."
        ) from None


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.compress_type not in _COMPRESSIONS:
            raise _invalid(f"{info.filename} is compressed by a method that is not read here.")
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        yield _Entry(info.filename, bool(info.flag_bits & 0x1), is_link, info)


def _tar_entries(tar: tarfile.TarFile) -> Iterator[_Entry]:
    for info in tar:
        if not info.isdir():
            yield _Entry(info.name, False, not info.isreg(), info)


def _take(entries: Iterator[_Entry], opened: object, path: Path, folder: Path, limits: Limits) -> Unpacked:
    taken = Unpacked()
    seen = total = 0
    allowed = min(limits.total_bytes, limits.free_growth_bytes + limits.growth_factor * path.stat().st_size)
    for entry in entries:
        seen += 1
        if seen > limits.files:
            raise TooManyFiles(
                f"The archive holds more than {limits.files} files.",
                loc=LOC,
                remedy="Send the best photos only; 10 to 30 are plenty for a portrait.",
                ctx={"max_count": limits.files, "provided_count": seen},
            )
        name = _checked_name(entry)
        if _is_junk(name):
            continue
        if reason := _refusal(entry, name):
            taken.left.append((name, reason))
            continue
        place = folder / f"{len(taken.members):05d}"
        total += _copy(opened(entry.source), place, entry.name, limits.file_bytes, allowed - total)  # type: ignore[operator]
        taken.members.append(Member(name, place))
    return taken


def _checked_name(entry: _Entry) -> str:
    """The member's name with forward slashes. Raises InvalidArchive when it points outside or the member is locked."""
    name = entry.name.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")) or "\0" in name:
        raise _invalid(f"The archive names a file outside itself ({name[:100]!r}).")
    if entry.encrypted:
        raise _invalid("The archive is protected by a password.", "Make it again without one.")
    return str(PurePosixPath(name))


def _is_junk(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not parts or "__MACOSX" in parts or any(part.startswith(".") for part in parts) or parts[-1].lower() in _JUNK


def _refusal(entry: _Entry, name: str) -> str:
    if entry.link:
        return "a link or device, not a file"
    if name.lower().endswith(NESTED):
        return "an archive inside the archive; only the outer one is opened"
    return ""


def _copy(source: IO[bytes] | None, place: Path, name: str, most: int, left: int) -> int:
    """Writes one member to `place`, counting; bytes written."""
    if source is None:
        raise _invalid(f"{name} cannot be read.")
    written = 0
    with source, place.open("wb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > most:
                raise FileTooLarge(
                    f"{name} is larger than {most // MIB} MiB.",
                    loc=LOC,
                    remedy="Send it as a JPEG of usual size.",
                    ctx={"max_size": most},
                )
            if written > left:
                raise _invalid(
                    "Unpacked, the archive is far larger than it looks.", "Send an archive of ordinary photos."
                )
            target.write(chunk)
    return written


def _invalid(message: str, remedy: str = "Send a .zip or .tar archive of photos.") -> InvalidArchive:
    return InvalidArchive(message, loc=LOC, remedy=remedy, ctx={"supported_extensions": list(SUPPORTED)})
