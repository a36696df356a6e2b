"""Captions that came in one file for all pictures, in the forms that other trainers read and write.

JSON Lines with a file name and a text per line (as Hugging Face's ImageFolder has it, and others under other names),
the same as CSV, a JSON list of such rows, or a JSON object from file name to caption. A caption file of the picture's
own wins over all of them.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tintype.dataset.captions import LONGEST, decoded, key_of

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")
MOST_BYTES = 32 * 1024 * 1024
_NAMES = ("file_name", "filename", "file", "image", "image_path", "image_file", "path", "name")
_TEXTS = ("text", "caption", "prompt", "description")
_MOST_TROUBLES = 5


@dataclass
class Table:
    """What one such file says: captions by the picture's key, and the lines that could not be used."""

    captions: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def take(self, row: Any, folder: PurePosixPath, place: str) -> None:
        """Reads one row; `folder` is where the file lies, which its names are relative to."""
        named = _first(row, _NAMES)
        if named is None:
            return self._doubt(f"{place} names no picture")
        said = _first(row, _TEXTS)
        if said is None:
            return self._doubt(f"{place} says nothing about {named[:100]}")
        relative = PurePosixPath(named.replace("\\", "/"))
        # An absolute path is of the computer it was written on; its last part is all that can match here.
        elsewhere = relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]
        here = folder / (relative.name if elsewhere else relative)
        self.captions[key_of(str(here))] = " ".join(said.split())[:LONGEST]
        return None

    def _doubt(self, what: str) -> None:
        if len(self.troubles) < _MOST_TROUBLES:
            self.troubles.append(what)


def read_table(path: Path, name: str) -> Table:
    """The captions in a metadata file called `name` in its archive. Never raises for its content."""
    table = Table()
    if path.stat().st_size > MOST_BYTES:
        table.troubles.append(f"it is larger than {MOST_BYTES // 1024 // 1024} MiB")
        return table
    text = decoded(path.read_bytes())
    folder = PurePosixPath(name).parent
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".csv":
        _csv(text, folder, table)
    elif suffix == ".json" and (whole := _parsed(text)) is not None:
        _json(whole, folder, table)
    else:
        _lines(text, folder, table)
    return table


def _lines(text: str, folder: PurePosixPath, table: Table) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _parsed(line)
            if isinstance(row, dict):
                table.take(row, folder, f"line {number}")
            else:
                table._doubt(f"line {number} is no JSON object")


def _json(whole: Any, folder: PurePosixPath, table: Table) -> None:
    if isinstance(whole, dict) and _first(whole, _NAMES) is None:
        rows = [{"file_name": name, **_said(value)} for name, value in whole.items()]
    else:
        rows = whole if isinstance(whole, list) else [whole]
    for number, row in enumerate(rows, 1):
        table.take(row, folder, f"entry {number}")


def _said(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"text": value}


def _csv(text: str, folder: PurePosixPath, table: Table) -> None:
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2):
            table.take(row, folder, f"line {number}")
    except csv.Error as problem:
        table.troubles.append(f"it is no CSV ({problem})")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _first(row: Any, keys: tuple[str, ...]) -> str | None:
    """The first of these fields that holds text (or a list that begins with text)."""
    if not isinstance(row, dict):
        return None
    for key in keys:
        value = row.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value
    return None
