"""Reads the names in an archive, and what they tell by themselves: leftovers of photo services, folders of others.

A name is an identity: it is kept whole for finding captions, and shortened only where a person reads it. Old archives
do not say how their names are encoded. All of one archive are read by one rule, or its captions lose their pictures.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Container, Iterator
from itertools import chain, count
from pathlib import PurePosixPath

from tintype.dataset.encodings import USUAL_IN_NAMES, guess, spelt_in

_LONGEST_SHOWN = 240  # characters
_JUNK_FOLDERS = frozenset({"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"})
_JUNK = frozenset({
    "thumbs.db", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "picasa.ini", "zbthumbnail.info",
    "archive_browser.html", "print-subscriptions.json", "shared_album_comments.json",
    "user-generated-memory-titles.json",
})  # fmt: skip
# What cameras, editors and photo services write beside a photo about it; the second cuts its words to fit a length.
_SIDECAR = re.compile(
    r"\.(xmp|aae|thm|lrv|dop|pp3|arp|cos|cop|cot|on1|spd|modd|moff|lrcat|lrprev|url|webloc|lnk)$"
    r"|\.suppl[a-z-]*(\(\d+\))?\.json$",
    re.IGNORECASE,
)
# Photos of a class rather than of the subject, as kohya's and DreamBooth's trainers have them beside the subject's.
_REGULARISATION = re.compile(
    r"(\d+_)?(reg([_-].*|s)?|regulari[sz]ation.*|class[ _-]?(images?|imgs?|data|photos?|pictures?))", re.IGNORECASE
)


class NameDecoder:
    """Decodes names of unknown encoding, all of an archive in one; the first beyond ASCII makes it look at them all.

    `listed` gives for every file its undeclared name, and what it holds where that may spell out names of pictures.
    """

    def __init__(self, listed: Callable[[], Iterator[tuple[bytes, bytes]]]) -> None:
        self._listed = listed

    @functools.cached_property
    def _encoding(self) -> str:
        listed = list(self._listed())
        return guess([name for name, _ in listed], USUAL_IN_NAMES, spelt_in(table for _, table in listed)).encoding

    def decoded(self, name: str | bytes) -> tuple[str, str | None]:
        """Returns the name, and the encoding that was found out for it, if any had to be."""
        if isinstance(name, str):
            return name, None
        if name.isascii():
            return name.decode(), None
        return name.decode(self._encoding, "replace"), self._encoding


def is_junk(name: str) -> bool:
    """Tells whether nobody meant to send this file: hidden, or left there by a computer or photo service."""
    parts = PurePosixPath(name).parts
    return (
        not parts
        or any(part.startswith(".") or part.lower() in _JUNK_FOLDERS for part in parts)
        or parts[-1].lower() in _JUNK
        or _SIDECAR.search(parts[-1]) is not None
    )


def regularisation_folder(name: str) -> str | None:
    """Finds the folder of regularisation photos that a file lies in; None where it lies in none."""
    folders = PurePosixPath(name).parent.parts
    found = [number for number, part in enumerate(folders, 1) if _REGULARISATION.fullmatch(part)]
    return "/".join(folders[: found[0]]) if found else None


def shown(name: str, taken: Container[str] = ()) -> str:
    """Makes a name fit for logs and pages: without control characters, no longer than a line, and like no other."""
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    if len(plain) > _LONGEST_SHOWN:
        plain = f"{plain[: _LONGEST_SHOWN // 2]}…{plain[-_LONGEST_SHOWN // 2 :]}"
    before, dot, suffix = plain.rpartition(".")
    numbers = (f"{before} ({n}).{suffix}" if dot and "/" not in suffix else f"{plain} ({n})" for n in count(2))
    return next(name for name in chain([plain], numbers) if name not in taken)
