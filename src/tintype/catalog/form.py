"""How a value of a declared type is written, as `[{"path": URL, "scale": 1}]`: what an error shows for a wrong one.

Words in capitals stand for what the person knows; values are the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tintype.catalog.fields import is_file

_STANDS_FOR: Mapping[Any, str] = {str: "TEXT", int: "NUMBER", float: "NUMBER", bool: "true", type(None): "null"}
#: What pydantic says of a value of another kind, where it says it in words of its own.
_PLAIN = {
    "list_type": "This is not a list.",
    "model_type": "This is not an object.",
    "model_attributes_type": "This is not an object.",
    "dict_type": "This is not an object.",
    "int_parsing": "This is not a whole number.",
    "int_parsing_size": "This number is larger than any that is taken here; send a smaller one.",
    "float_parsing": "This is not a number.",
    "extra_forbidden": "There is no such field.",
}
_OF_FORM = ("list_type", "model_type", "model_attributes_type", "dict_type")


def form_of(declared: Any) -> str:
    """Writes a value of a type, or the alternatives."""
    if isinstance(declared, FieldInfo):
        return _form_of_field(declared)
    origin, inner = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return form_of(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(form_of(part) for part in inner if part is not type(None)))
    if origin is Literal:
        return " or ".join(map(json.dumps, inner))
    if origin is list:
        return f"[{form_of(inner[0])}]"
    if origin is dict:
        return f"{{NAME: {form_of(inner[1])}}}"
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        return "{" + ", ".join(f'"{name}": {form_of(info)}' for name, info in declared.model_fields.items()) + "}"
    return _STANDS_FOR.get(declared, "…")


def _form_of_field(info: FieldInfo) -> str:
    default = None if info.is_required() else info.default
    if isinstance(default, bool | str) and default != "":
        return json.dumps(default)
    if isinstance(default, int | float):
        return f"{default:g}"
    if is_file(info):
        return "URL"
    return form_of(info.annotation)


def plainly(error: Any, fields: Mapping[str, FieldInfo]) -> str:
    """Says one of pydantic's errors in words for a person, with the form of its field where the kind was wrong."""
    type_, given, loc = error["type"], error.get("input"), error["loc"]
    if type_ == "float_type" and isinstance(given, int) and not isinstance(given, bool):
        type_ = "int_parsing_size"  # it has no float
    message = _PLAIN.get(type_, error["msg"].removeprefix("Value error, "))
    if type_ in _OF_FORM and (form := _form_at(loc, fields)):
        return f"{message} {form}"
    return message if message.endswith((".", "!", "?")) else f"{message}."


def _form_at(loc: Sequence[str | int], fields: Mapping[str, FieldInfo]) -> str:
    info = fields.get(str(loc[0])) if loc else None
    return f"Send {loc[0]} in the form {form_of(info.annotation)}." if info else ""
