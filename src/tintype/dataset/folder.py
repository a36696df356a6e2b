"""Lists a folder of photos on this computer before anything is written, without what tintype itself has written there.

`tintype train .` puts its output into the very folder that it takes the photos from: neither that run nor the next one
may take it for photos. Nothing is packed or copied: each file comes as a link under a number of our own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tintype.dataset.archive import MIB, Limits, Member
from tintype.dataset.file_kind import HEAD, archive_kind
from tintype.dataset.names import is_junk, shown
from tintype.errors import FileTooLarge, TooManyFiles

# What lies side by side in a folder of ours: of a training that has ended, of one that has not, and a server's data.
_OURS = ({"lora.safetensors", "config.json"}, {".work"}, {"locks", "files"})
_ENTRIES_PER_FILE = 4  # that are looked at, for each file that a folder may hold
_JUNK = "hidden, or left there by a computer or photo service"

_Found = tuple[Path, Literal["file", "junk", "left"], str]  # and why it is no file to be read


def folder_members(
    root: Path, folder: Path, *, limits: Limits | None = None, check: Callable[[], None] = lambda: None
) -> Iterator[Member]:
    """Lists all that is below `root`, then yields it as links in `folder`; whoever takes one may delete it.

    Folders that are hidden, linked or tintype's own are passed over as a whole. Raises TooManyFiles or FileTooLarge.
    """
    root, taken = root.resolve(), set[str]()
    listed = list(_listed(root, limits or Limits(), check))
    folder.mkdir(parents=True, exist_ok=True)
    for number, (path, state, why) in enumerate(listed):
        check()
        identity = path.relative_to(root).as_posix()
        name = shown(identity, taken)
        taken.add(name)
        place = folder / f"{number:05d}" if state == "file" else None
        if place is not None:
            place.symlink_to(path)
        yield Member(name, place, state, why, identity)


def _listed(root: Path, limits: Limits, check: Callable[[], None]) -> Iterator[_Found]:
    files = size = seen = 0
    remedy = "Name a folder that holds the photos and their captions only."
    for place, folders, names in os.walk(root):
        check()
        seen += len(folders) + len(names)
        for folder in [Path(place, name) for name in sorted(folders)]:
            if why := _passed_over(folder):
                folders.remove(folder.name)
                yield folder, "junk", why
        folders.sort()
        for found in (_looked_at(Path(place, name), limits) for name in sorted(names)):
            if found[1] == "file":
                files, size = files + 1, size + found[0].stat().st_size
            yield found
        if files > limits.files or seen > limits.files * _ENTRIES_PER_FILE:
            context = {"max_count": limits.files, "provided_count": max(files, limits.files + 1)}
            raise TooManyFiles(f"{root} holds more than {limits.files} files.", remedy=remedy, ctx=context)
        if size > limits.total_bytes:
            most = limits.total_bytes
            raise FileTooLarge(f"{root} holds more than {most // MIB} MiB.", remedy=remedy, ctx={"max_size": most})


def _passed_over(folder: Path) -> str:
    """Why a folder is not looked into; empty for one that is."""
    if is_junk(folder.name):
        return _JUNK
    if folder.is_symlink():
        return "a link to a folder"
    ours = any(all((folder / name).exists() for name in mark) for mark in _OURS)
    return "what tintype has written there" if ours else ""


def _looked_at(path: Path, limits: Limits) -> _Found:
    if is_junk(path.name):
        return path, "junk", _JUNK
    if not path.is_file():
        return path, "left", "a device, or a link that leads nowhere"
    if path.stat().st_size > limits.file_bytes:
        return path, "left", f"larger than {limits.file_bytes // MIB} MiB"
    try:
        with path.open("rb") as file:
            is_archive = archive_kind(file.read(HEAD))
    except OSError as problem:
        return path, "left", f"it cannot be read ({problem.strerror})"
    if is_archive:
        return path, "left", "an archive among the photos; name it by itself to train what is in it"
    return path, "file", ""
