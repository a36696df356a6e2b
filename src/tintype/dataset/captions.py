"""What is said about each picture: its own caption, else the trigger phrase, else one neutral sentence.

A photo cut in several framings says so in its caption, or the model would learn that the person is always this near.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tintype.dataset.framing import Framing

TRIGGER_TOKEN = "[trigger]"
NEUTRAL = "a photo of a person"
LONGEST = 10_000  # characters; a text file longer than this is no caption
SUFFIXES = (".txt", ".caption")  # the second is what some trainers write by default

Source = Literal["file", "metadata", "trigger", "default", "neutral"]

_WORDS: dict[Framing, str] = {
    "head": "close-up",
    "bust": "head and shoulders",
    "half": "upper body",
    "full": "full body",
}
_ALREADY_SAID = re.compile(
    r"\b(close[- ]?up|head[- ]?shot|head and shoulders|portrait shot|bust|upper body|half[- ]body|waist[- ]up|"
    r"full[- ](body|length)|cowboy shot|medium shot|wide shot|long shot)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Caption:
    """A caption as it is trained, and where it came from."""

    text: str
    source: Source

    @property
    def written(self) -> bool:
        """Whether a person wrote it."""
        return self.source in ("file", "metadata")

    @property
    def states_framing(self) -> bool:
        """Whether it says itself how much of the person is to be seen."""
        return self.written and _ALREADY_SAID.search(self.text) is not None

    def framed(self, framing: Framing | None) -> str:
        """The text for a cut of this framing: only a written caption is extended, and never one that says it itself."""
        if framing is None or not self.written or self.states_framing:
            return self.text
        return f"{self.text.rstrip(' .,;')}, {_WORDS[framing]}"


def key_of(name: str) -> str:
    """What a picture and its caption have in common: folder and stem, whatever computer wrote the names.

    Case and Unicode form differ between a camera, Windows and macOS for what a person takes for one name.
    """
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix(""))).casefold()


def read_caption(path: Path) -> str:
    """The text of a caption file on one line, whatever common encoding it was saved in."""
    return " ".join(decoded(path.read_bytes()[: LONGEST * 4]).split())[:LONGEST]


def decoded(raw: bytes) -> str:
    """Text in UTF-8, UTF-16 with a mark, or else a Western code page. NUL bytes are dropped."""
    marked = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            return raw.decode(encoding).replace("\0", "")
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").replace("\0", "")


def caption_of(
    written: str | None, trigger: str | None, default: str | None = None, *, source: Source = "file"
) -> Caption:
    """The caption of one picture. `written` is what a person wrote about it, in `source`; empty counts as absent.

    `default` is for pictures without one, where there is no trigger phrase.
    """
    phrase, otherwise = (trigger or "").strip(), (default or "").strip()
    if written and written.strip():
        # Without a trigger the token would be trained as a word; the default's or neutral sentence's subject stands in.
        return Caption(written.replace(TRIGGER_TOKEN, phrase or otherwise or "a person").strip(), source)
    if phrase:
        return Caption(phrase, "trigger")
    return Caption(otherwise, "default") if otherwise else Caption(NEUTRAL, "neutral")
