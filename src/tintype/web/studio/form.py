"""The form of an endpoint, made from the schema of its input alone, by the rules that fal's own pages follow.

The order is the declaration's. What holds a file's URL becomes an upload, `prompt` and what ends so a text area, a
number with both bounds a slider beside a number, `seed` a number with a dice, fixed words a list, a truth value a box
to tick, an object its own fields, a list rows that can be added. What has to be sent, what a prompt is, files, and what
says `ui: {"important": true}` stand in the form; all else is folded away. `ui: {"field": …}` overrides the kind.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel

from tintype.catalog.fields import is_file
from tintype.errors import Json

_LONG_TEXT = 400  # characters: what may be longer gets a text area
_ARCHIVES = re.compile(r"images_data_url|.*_(?:data|zip|archive)_url")
_FILES = re.compile(r"(?:.*_)?(?:image|file|mask|audio|video)_urls?|image_urls")
ROW = "__"  # stands in a path for the number of a row
_SPELT = {"lora": "LoRA", "loras": "LoRAs", "id": "ID", "url": "URL", "urls": "URLs"}
_MOST_SLIDER = 100_000  # a slider over more values hits none of them


@dataclass(frozen=True)
class FormField:
    """One input: `kind` names its widget; `path` is where its value stands in the body, with `.` between names."""

    name: str
    kind: str  # the name of a macro in _fields.html
    path: str
    label: str
    description: str = ""
    is_required: bool = False
    is_important: bool = False
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: str = "any"
    options: Sequence[Any] = ()
    longest: int | None = None
    most: int | None = None  # rows
    fields: Sequence[FormField] = ()

    @property
    def id(self) -> str:
        """Names the element; unique within a form."""
        return "input-" + self.path.replace(".", "-")


@functools.cache
def form_of_input(input: type[BaseModel]) -> tuple[FormField, ...]:
    """Makes the fields of an input, in the order of its declaration."""
    return tuple(_fields(_Part(input.model_json_schema(), input)))


class _Part:
    """Holds an object's schema, the definitions that it refers to, and the model that it was made from."""

    def __init__(self, schema: Json, model: type[BaseModel] | None, named: Json | None = None) -> None:
        self.schema, self.model = schema, model
        self.named: Json = schema.get("$defs", {}) if named is None else named

    def holds_file(self, name: str) -> bool:
        info = self.model.model_fields.get(name) if self.model else None
        return _names_file(name) or (info is not None and is_file(info))

    def inner(self, name: str, schema: Json) -> _Part:
        info = self.model.model_fields.get(name) if self.model else None
        return _Part(schema, next(_models_in(info.annotation), None) if info else None, self.named)


def _fields(part: _Part, prefix: str = "") -> list[FormField]:
    declared = part.schema.get("properties", {})
    return [_field(part, name, prefix + name) for name in declared if not _ui(declared[name]).get("hidden")]


def _field(part: _Part, name: str, path: str) -> FormField:
    """Decides the widget of one property."""
    declared = part.schema["properties"][name]
    choices = [_resolved(one, part.named) for one in declared.get("anyOf", [declared]) if one.get("type") != "null"]
    one = {**(choices[0] if choices else {}), **{key: value for key, value in declared.items() if key != "anyOf"}}
    one = _resolved(one, part.named)
    words: Sequence[Any] = next((choice["enum"] for choice in choices if "enum" in choice), [])
    objects = next((choice for choice in choices if "properties" in choice), None)
    kind = _ui(declared).get("field") or _kind(name, one, words, objects, part.holds_file(name))
    if kind in ("image", "audio", "video"):
        kind = "file"
    is_required = name in part.schema.get("required", ())
    low, high = _bound(one, "inimum", 1), _bound(one, "aximum", -1)
    return FormField(
        name=name,
        kind=kind,
        path=path,
        label=_label(name),
        description=one.get("description", ""),
        is_required=is_required,
        is_important=is_required or kind == "archive" or _is_prompt(name) or bool(_ui(declared).get("important")),
        default=declared.get("default"),
        minimum=low,
        maximum=high,
        step="1" if one.get("type") == "integer" else "any",
        options=words,
        longest=one.get("maxLength"),
        most=one.get("maxItems"),
        fields=_inner(part, name, path, one, objects, kind),
    )


def _inner(part: _Part, name: str, path: str, one: Json, objects: Json | None, kind: str) -> Sequence[FormField]:
    """Makes the fields of an object, or those of one row of a list."""
    if objects is not None:
        return _fields(part.inner(name, objects), f"{path}.")
    if kind != "rows":
        return ()
    items = _resolved(one.get("items", {}), part.named)
    if "properties" in items:
        return _fields(part.inner(name, items), f"{path}.{ROW}.")
    row = _Part({"properties": {name: items}, "required": [name]}, part.model, part.named)
    return [replace(_field(row, name, f"{path}.{ROW}"), description="")]


def _kind(name: str, one: Json, words: Sequence[Any], objects: Json | None, holds_file: bool) -> str:
    if words:
        return "choice_or_object" if objects else "choice"
    if objects:
        return "object"
    if one.get("type") == "array":
        return "rows"
    if one.get("type") == "boolean":
        return "switch"
    if one.get("type") in ("integer", "number"):
        if name == "seed":
            return "seed"
        low, high = _bound(one, "inimum", 1), _bound(one, "aximum", -1)
        return "slider" if low is not None and high is not None and high - low <= _MOST_SLIDER else "number"
    if one.get("type") != "string":
        return "json"
    if holds_file or _names_file(name):
        return "archive" if _ARCHIVES.fullmatch(name) else "file"
    return "long_text" if _is_prompt(name) or one.get("maxLength", 0) > _LONG_TEXT else "text"


def _is_prompt(name: str) -> bool:
    return name == "prompt" or name.endswith("_prompt")


def _names_file(name: str) -> bool:
    return _FILES.fullmatch(name) is not None or _ARCHIVES.fullmatch(name) is not None


def _label(name: str) -> str:
    """Writes a name as words; what merely says in which form something is sent is left out."""
    words = name.removesuffix("_url").removesuffix("_data").split("_")
    text = " ".join(_SPELT.get(word, word) for word in words)
    return text[:1].upper() + text[1:]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models that an annotation such as `list[Part] | None` holds."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _bound(one: Json, end: str, inward: int) -> float | None:
    """Reads a bound of either kind; an exclusive one of whole numbers is one further in."""
    for letter, prefix in (("m", ""), ("M", "exclusive")):
        bound = one.get(f"{prefix}{letter}{end}")
        if bound is not None:
            return float(bound + inward) if prefix and one.get("type") == "integer" else float(bound)
    return None


def _resolved(one: Json, parts: Json) -> Json:
    """Follows a reference; what stands beside it goes before what it names."""
    while "$ref" in one:
        named: Mapping[str, Any] = parts[one["$ref"].rpartition("/")[2]]
        one = {**named, **{key: value for key, value in one.items() if key != "$ref"}}
    return one


def _ui(declared: Json) -> Mapping[str, Any]:
    return declared.get("ui") or {}
