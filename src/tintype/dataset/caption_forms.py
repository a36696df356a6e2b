"""Reads captions in the forms in which trainers leave them: a text, JSON about one photo or many, tables of many.

What a file is about its name does not tell: `p1.json` may hold a caption of p1.png, or those of all photos. So a
reading says both, what it would say about the photo of its name, and what about photos that it names itself.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tintype.dataset.names import shown
from tintype.dataset.pairing import PICTURE_SUFFIX

LONGEST = 10_000  # characters; a text file longer than this is no caption
CAPTION_SUFFIXES = (".txt", ".caption")  # the second is what some trainers write by default
LINES_SUFFIXES = (".jsonl", ".ndjson")
DELIMITED_SUFFIXES = (".csv", ".tsv", ".tab")
SUFFIXES = (*CAPTION_SUFFIXES, ".json", *LINES_SUFFIXES, *DELIMITED_SUFFIXES)
#: Keys of Ideogram's schema: an object with one of them is a caption itself.
SCHEMA = ("high_level_description", "style_description", "compositional_deconstruction")

_NAME_FIELDS = ("file_name", "filename", "file", "image", "image_path", "image_file", "image_name", "img", "img_path",
                "path", "file_path", "filepath", "name")  # fmt: skip
TEXT_FIELDS = ("text", "caption", "captions", "prompt", "description", "long_caption", "tags")
# Keys of what Google Photos and Flickr write about a photo or an album.
_OF_SERVICES = frozenset({"photoTakenTime", "photoLastModifiedTime", "googlePhotosOrigin", "albumData",
                          "date_imported", "imgName", "fileChecksum"})  # fmt: skip
_DELIMITERS = ("\t", ";", ",", "|")
_MOST_PROBLEMS = 5  # of one file that are named


@dataclass
class Reading:
    """Holds what a file says about the photo of its own name, and about photos that it names, with problems of rows.

    `names_pictures` tells that it does so in a field made for it. `of_service` files are no captions but a service's.
    """

    own: str | None = None
    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    names_pictures: bool = False
    of_service: bool = False

    def add(self, place: str, name: str | None, text: str | None) -> None:
        """Takes a row, or keeps what is wrong with it, of the first few."""
        if name is not None and text is not None and _names_a_file(name):
            self.rows.append((name, text))
        elif len(self.problems) < _MOST_PROBLEMS:
            unnamed = name is None or not _names_a_file(name)
            self.problems.append(
                f"{place} names no picture" if unnamed else f"{place} says nothing about {shown(str(name)[:100])}"
            )


def read_caption_file(text: str, suffix: str) -> Reading:
    """Reads a file of any of SUFFIXES. Never raises for its content."""
    text = text.removeprefix("\ufeff")
    whole = _parsed(text) if suffix not in DELIMITED_SUFFIXES else None
    if suffix in LINES_SUFFIXES or (suffix == ".json" and whole is None and "\n" in text.strip()):
        reading = _lines(text)
    elif isinstance(whole, dict | list) or suffix == ".json":
        reading = _json(whole)
    else:
        reading = _delimited(text)
    if suffix in CAPTION_SUFFIXES:
        reading.names_pictures = False  # a sentence may well begin with the name of another photo
    if reading.own is None and (suffix in CAPTION_SUFFIXES or (whole is None and any(key in text for key in SCHEMA))):
        reading.own = _one_line(text)  # of what is broken JSON, the trainer says what is wrong with it
    return reading


def summary_of(text: str) -> str:
    """Gives the plain sentence for a caption in Ideogram's schema, for models that know no schema; else the text."""
    whole = _parsed(text) if text.startswith("{") else None
    if not isinstance(whole, dict) or not any(key in whole for key in SCHEMA):
        return text
    said = whole.get("high_level_description")
    if isinstance(said, str) and said.strip():
        return _one_line(said)
    composition = whole.get("compositional_deconstruction")
    parts = composition if isinstance(composition, dict) else {}
    elements = parts.get("elements")
    listed = elements if isinstance(elements, list) else []
    described = [element.get("desc") for element in listed if isinstance(element, dict)]
    return _one_line(", ".join(part for part in (*described, parts.get("background")) if isinstance(part, str)))


def _lines(text: str) -> Reading:
    reading = Reading(names_pictures=True)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _parsed(line)
            if isinstance(row, dict):
                reading.add(f"line {number}", _field(row, _NAME_FIELDS), _field(row, TEXT_FIELDS))
            elif len(reading.problems) < _MOST_PROBLEMS:
                reading.problems.append(f"line {number} is no JSON object")
    return reading


def _json(whole: Any) -> Reading:
    if isinstance(whole, list) and len(whole) == 1 and _field(whole[0], _NAME_FIELDS) is None:
        whole = whole[0]
    if isinstance(whole, str):
        return Reading(own=_one_line(whole))
    if isinstance(whole, list):
        return _rows(whole)
    if not isinstance(whole, dict):
        return Reading(problems=["it is not JSON"])
    if _OF_SERVICES & whole.keys() or {"title", "access", "date"} <= whole.keys():
        return Reading(of_service=True)
    own = _text(whole) or _field(whole, TEXT_FIELDS)
    if (named := _field(whole, _NAME_FIELDS)) is not None:
        reading = _rows([whole])
        reading.names_pictures = PICTURE_SUFFIX.search(named) is not None  # or it may be a person's name
    elif lists := [value for value in whole.values() if isinstance(value, list) and value and _is_row(value[0])]:
        reading = _rows(_with_names(whole, [row for rows in lists for row in rows]))
    else:  # from name to caption
        reading = Reading()
        for name, value in whole.items():
            reading.add(f"entry {shown(name[:100])}", name, _text(value) or _field(value, TEXT_FIELDS))
    reading.own = own
    return reading


def _rows(rows: Sequence[Any]) -> Reading:
    reading = Reading(names_pictures=True)
    for number, row in enumerate(rows, 1):
        reading.add(f"entry {number}", _field(row, _NAME_FIELDS), _field(row, TEXT_FIELDS))
    return reading


def _with_names(whole: dict[str, Any], rows: list[Any]) -> list[Any]:
    """COCO's captions name their picture by a number, under which another list has its file."""
    images = whole.get("images")
    files = {str(row.get("id")): row for row in images if isinstance(row, dict)} if isinstance(images, list) else {}
    told = [row for row in rows if isinstance(row, dict) and "image_id" in row]
    return [{**row, "file_name": _field(files.get(str(row["image_id"])), _NAME_FIELDS)} for row in told] or rows


def _delimited(text: str) -> Reading:
    """Reads a table under whatever separates its cells, with a line of headings or without one."""
    start, _, rest = text.partition("\n")
    if start.startswith("sep=") and len(start.strip()) == 5:  # as Excel begins a table
        return _table(rest, start[4])
    for delimiter in _DELIMITERS:
        first = _headings(text, delimiter)
        headed = _column(first, _NAME_FIELDS) is not None and _column(first, TEXT_FIELDS) is not None
        if headed or (len(first) > 1 and PICTURE_SUFFIX.search(first[0].strip())):
            return _table(text, delimiter)
    return Reading(of_service=bool(_OF_SERVICES & set(_headings(text, ","))))


def _table(text: str, delimiter: str) -> Reading:
    first = _headings(text, delimiter)
    named, told = _column(first, _NAME_FIELDS), _column(first, TEXT_FIELDS)
    headless = named is None or told is None
    name_at, text_at = (0, 1) if named is None or told is None else (named, told)
    # A sentence with commas that nobody quoted fills more cells than there are headings.
    text_ends = None if headless or text_at == len(first) - 1 else text_at + 1
    reading = Reading(names_pictures=True)
    try:
        for number, row in enumerate(_cells(text, delimiter), 1):
            if any(row) and (headless or number > 1):
                said = _one_line(delimiter.join(row[text_at:text_ends]))
                reading.add(f"line {number}", "".join(row[name_at : name_at + 1]).strip() or None, said or None)
    except csv.Error as problem:
        reading.problems.append(f"it is no CSV ({problem})")
    return reading


def _cells(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _headings(text: str, delimiter: str) -> list[str]:
    try:
        return next(_cells(text, delimiter), [])
    except csv.Error:
        return []


def _column(headings: Sequence[str], fields: Sequence[str]) -> int | None:
    known = [_plain(heading) for heading in headings]
    return next((known.index(name) for name in fields if name in known), None)


def _plain(heading: str) -> str:
    return heading.strip().casefold().replace(" ", "_").replace("-", "_")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and (_field(value, _NAME_FIELDS) is not None or "image_id" in value)


def _field(row: Any, fields: Sequence[str]) -> str | None:
    """The first of these fields that holds text, however its name is written."""
    if not isinstance(row, dict):
        return None
    known = {_plain(key): value for key, value in reversed(row.items())}
    if isinstance(tags := known.get("tags"), list):
        known["tags"] = ", ".join(tag for tag in tags if isinstance(tag, str))
    return next((text for name in fields if (text := _text(known.get(name)))), None)


def _text(value: Any) -> str | None:
    """Text as such, the first of several, or an object in Ideogram's schema as JSON."""
    if isinstance(value, list):
        return next((text for one in value if not isinstance(one, list) and (text := _text(one))), None)
    if isinstance(value, dict) and any(key in value for key in SCHEMA):
        with suppress(RecursionError):
            return _encodable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return _one_line(value) or None if isinstance(value, str) else None


def _one_line(text: str) -> str:
    line = " ".join(_encodable(text).replace("\0", "").split())
    return line if line.startswith("{") else line[:LONGEST]


def _encodable(text: str) -> str:
    """The text without halves of letters, which JSON can spell and nothing can write."""
    return text.encode("utf-8", "replace").decode()


def _names_a_file(name: str) -> bool:
    return PurePosixPath(name.strip().replace("\\", "/")).name not in ("", "..")
