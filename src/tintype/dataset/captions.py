"""What is trained as text: an image's own caption, else the trigger phrase, else one neutral sentence.

Captions come in a text file of the image's name, or in one file for all images, in the forms that other trainers read
and write: JSON Lines with a file name and a text per line (as Hugging Face's ImageFolder has it, and others under other
names), the same as CSV, a JSON list of such rows, or a JSON object from file name to caption. An image's own file wins.

A photo cropped in several framings says so in its caption, or the model would learn that the person is always so near.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tintype.dataset.framing import Framing

TRIGGER_TOKEN = "[trigger]"
NEUTRAL = "a photo of a person"
LONGEST = 10_000  # characters; a text file longer than this is no caption
CAPTION_SUFFIXES = (".txt", ".caption")  # the second is what some trainers write by default
TABLE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")
MOST_TABLE_BYTES = 32 * 1024 * 1024

Source = Literal["file", "metadata", "trigger", "default", "neutral"]

_WORDS: dict[Framing, str] = {
    "head": "close-up",
    "bust": "head and shoulders",
    "half": "upper body",
    "full": "full body",
}
_STATED_FRAMING = re.compile(
    r"\b(close[- ]?up|head[- ]?shot|head and shoulders|portrait shot|bust|upper body|half[- ]body|waist[- ]up|"
    r"full[- ](body|length)|cowboy shot|medium shot|wide shot|long shot)\b",
    re.IGNORECASE,
)
_NAME_FIELDS = ("file_name", "filename", "file", "image", "image_path", "image_file", "path", "name")
_TEXT_FIELDS = ("text", "caption", "prompt", "description")
_MOST_PROBLEMS = 5  # of one table that are named


@dataclass(frozen=True)
class Caption:
    """Holds a caption as it is trained, and where it came from."""

    text: str
    source: Source

    @property
    def written(self) -> bool:
        """Tells whether a person wrote it."""
        return self.source in ("file", "metadata")

    @property
    def states_framing(self) -> bool:
        """Tells whether it says itself how much of the person is to be seen."""
        return self.written and _STATED_FRAMING.search(self.text) is not None

    def framed(self, framing: Framing | None) -> str:
        """Adds the framing of a crop to a written caption that does not state one itself."""
        if framing is None or not self.written or self.states_framing:
            return self.text
        return f"{self.text.rstrip(' .,;')}, {_WORDS[framing]}"


@dataclass
class CaptionFiles:
    """Holds the captions that came in files, by the key of their image."""

    own: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)  # of the files of `own`
    _used: set[str] = field(default_factory=set)  # keys of `own`

    def add_file(self, path: Path, name: str) -> None:
        """Reads the caption file of one image, called `name` in its archive."""
        self.own[key_of(name)] = read_caption(path)
        self._names[key_of(name)] = name

    def add_table(self, path: Path, name: str) -> Table:
        """Reads a file with the captions of many images."""
        table = read_table(path, name)
        self.listed |= table.captions
        return table

    def find(self, name: str) -> tuple[str | None, Source]:
        """Finds the text about an image, and its source. `photo.jpg.txt` belongs to `photo.jpg` as `photo.txt` does."""
        for key in (key_of(name), key_of(f"{name}.txt")):
            if key in self.own:
                self._used.add(key)
                return self.own[key], "file"
        return self.listed.get(key_of(name)), "metadata"

    def without_image(self, names: Iterable[str]) -> list[str]:
        """Lists caption files and entries of tables that belong to none of the images with these names."""
        files = [name for key, name in sorted(self._names.items()) if key not in self._used]
        return files + sorted(set(self.listed) - {key_of(name) for name in names})


def caption_of(
    written: str | None, trigger: str | None, default: str | None = None, *, source: Source = "file"
) -> Caption:
    """Chooses the caption of one image. `written` is what a person wrote about it, in `source`; empty counts as absent.

    `default` is for images without one, where there is no trigger phrase.
    """
    phrase, otherwise = (trigger or "").strip(), (default or "").strip()
    if written and written.strip():
        # Without a trigger the token would be trained as a word; the default's or neutral sentence's subject stands in.
        return Caption(written.replace(TRIGGER_TOKEN, phrase or otherwise or "a person").strip(), source)
    if phrase:
        return Caption(phrase, "trigger")
    return Caption(otherwise, "default") if otherwise else Caption(NEUTRAL, "neutral")


def key_of(name: str) -> str:
    """Gives what an image and its caption have in common: folder and stem, whatever computer wrote the names.

    Case and Unicode form differ between a camera, Windows and macOS for what a person takes for one name.
    """
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix(""))).casefold()


def read_caption(path: Path) -> str:
    """Reads a caption file as one line, whatever common encoding it was saved in."""
    return _on_one_line(_decoded(path.read_bytes()[: LONGEST * 4]))


def _on_one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]


def _decoded(raw: bytes) -> str:
    """Text in UTF-8, UTF-16 with a mark, or else a Western code page. NUL bytes are dropped."""
    marked = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            return raw.decode(encoding).replace("\0", "")
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").replace("\0", "")


@dataclass
class Table:
    """Holds the captions of a file about many images, by the image's key, and problems of its rows."""

    captions: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_row(self, row: Any, folder: PurePosixPath, place: str) -> None:
        """Reads one row; `folder` is where the file lies, which its names are relative to."""
        name, text = _first(row, _NAME_FIELDS), _first(row, _TEXT_FIELDS)
        relative = PurePosixPath((name or "").replace("\\", "/"))
        if not relative.name:
            self.add_problem(f"{place} names no picture")
        elif text is None:
            self.add_problem(f"{place} says nothing about {str(name)[:100]}")
        else:
            # An absolute path is of the computer it was written on; its last part is all that can match here.
            elsewhere = relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]
            self.captions[key_of(str(folder / (relative.name if elsewhere else relative)))] = _on_one_line(text)

    def add_problem(self, problem: str) -> None:
        """Keeps the first few problems."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def read_table(path: Path, name: str) -> Table:
    """Reads the captions in a metadata file called `name` in its archive. Never raises for its content."""
    table, folder = Table(), PurePosixPath(name).parent
    if path.stat().st_size > MOST_TABLE_BYTES:
        table.add_problem(f"it is larger than {MOST_TABLE_BYTES // 1024 // 1024} MiB")
        return table
    text, suffix = _decoded(path.read_bytes()), PurePosixPath(name).suffix.lower()
    if suffix == ".csv":
        _read_csv(text, folder, table)
    elif suffix == ".json" and (whole := _parsed(text)) is not None:
        _read_json(whole, folder, table)
    else:
        _read_lines(text, folder, table)
    return table


def _read_lines(text: str, folder: PurePosixPath, table: Table) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _parsed(line)
            if isinstance(row, dict):
                table.add_row(row, folder, f"line {number}")
            else:
                table.add_problem(f"line {number} is no JSON object")


def _read_json(whole: Any, folder: PurePosixPath, table: Table) -> None:
    rows = whole if isinstance(whole, list) else [whole]
    if isinstance(whole, dict) and _first(whole, _NAME_FIELDS) is None:  # from file name to caption
        rows = [
            {"file_name": name, **(value if isinstance(value, dict) else {"text": value})}
            for name, value in whole.items()
        ]
    for number, row in enumerate(rows, 1):
        table.add_row(row, folder, f"entry {number}")


def _read_csv(text: str, folder: PurePosixPath, table: Table) -> None:
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2):
            table.add_row(row, folder, f"line {number}")
    except csv.Error as problem:
        table.problems.append(f"it is no CSV ({problem})")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _first(row: Any, fields: tuple[str, ...]) -> str | None:
    """The first of these fields that holds text (or a list that begins with text)."""
    if not isinstance(row, dict):
        return None
    for key in fields:
        value = row.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value
    return None
