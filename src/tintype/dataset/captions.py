"""What is said about each picture: its own text file, else the trigger phrase, else one neutral sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TRIGGER_TOKEN = "[trigger]"
NEUTRAL = "a photo of a person"
LONGEST = 10_000  # characters; a text file longer than this is no caption

Source = Literal["file", "trigger", "neutral"]


@dataclass(frozen=True)
class Caption:
    """A caption as it is trained, and where it came from."""

    text: str
    source: Source


def read_caption(path: Path) -> str:
    """The text of a caption file on one line, whatever common encoding it was saved in."""
    raw = path.read_bytes()[: LONGEST * 4]
    for encoding in ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            return " ".join(raw.decode(encoding).split())[:LONGEST]
        except UnicodeDecodeError:
            continue
    return " ".join(raw.decode("latin-1").split())[:LONGEST]


def caption_of(written: str | None, trigger: str | None, neutral: str = NEUTRAL) -> Caption:
    """The caption of one picture. `written` is its text file's content; empty ones count as absent."""
    phrase = (trigger or "").strip()
    if written and written.strip():
        # Without a trigger the token would be trained as a word; the neutral sentence's subject stands in.
        return Caption(written.replace(TRIGGER_TOKEN, phrase or "a person").strip(), "file")
    return Caption(phrase, "trigger") if phrase else Caption(neutral, "neutral")
