"""How an input may be spelt besides exactly, for every endpoint and at every depth.

Programs send "" or null for what is unset, and words in a case of their own; fal ignores names that it does not know,
so that a misspelt one has no effect and nobody says so. One walk over a body beside its declared fields settles the
first two and finds the third.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Loc = tuple[str | int, ...]

_LONGEST_NAME = 100  # characters that are compared
_JOINTS = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class UnknownField:
    """Names a field that is not declared, by the way to it, among those that are and those that were given."""

    loc: Loc
    known: Collection[str]
    given: Collection[str]

    @property
    def nearest(self) -> str | None:
        """Finds the known field that was most likely meant.

        It is one that looks alike; else the only one that begins with the name or has it for a word; else the only one
        that was not given.
        """
        name = str(self.loc[-1])[:_LONGEST_NAME]
        for alike in (
            difflib.get_close_matches(name, self.known, n=1),
            [one for one in self.known if name and one.startswith(name)],
            [one for one in self.known if name in one.split("_")],
            [one for one in self.known if one not in self.given],
        ):
            if len(alike) == 1:
                return alike[0]
        return None


@dataclass
class Body:
    """Holds a body as its declaration means it, and the fields in it that are not declared."""

    value: Any
    unknown: list[UnknownField] = field(default_factory=list)


def as_declared(given: Any, declared: Any) -> Body:
    """Reads what was given for a declared type: absent where it is unset, words as declared, lists and objects alike.

    What fits nowhere is left as it is, for the validation to refuse.
    """
    body = Body(None)
    body.value = _read(given, declared, (), body.unknown)
    return body


def declared_word(given: str, words: Iterable[str]) -> str:
    """Returns the one of the words that was meant, whatever its case, leading dot, blanks and hyphens; else `given`."""
    key = _key(given)
    return next((word for word in words if _key(word) == key), given)


def _key(word: str) -> str:
    return _JOINTS.sub("", word).lstrip(".").casefold()


def _read(given: Any, declared: Any, loc: Loc, unknown: list[UnknownField]) -> Any:
    forms = list(_forms(declared))
    if isinstance(given, Mapping):
        models = [form for form in forms if isinstance(form, type) and issubclass(form, BaseModel)]
        if models:  # of several, the one that knows most of the names
            return _read_object(given, max(models, key=lambda model: len(_fields(model).keys() & given)), loc, unknown)
        inner = _inner(forms, dict)
        return given if inner is None else {n: _read(part, inner, (*loc, n), unknown) for n, part in given.items()}
    if isinstance(given, list):
        inner = _inner(forms, list, tuple, set)
        return given if inner is None else [_read(part, inner, (*loc, n), unknown) for n, part in enumerate(given)]
    return declared_word(given, _words(forms)) if isinstance(given, str) else given


def _read_object(
    given: Mapping[str, Any], model: type[BaseModel], loc: Loc, unknown: list[UnknownField]
) -> dict[str, Any]:
    known = _fields(model)
    unknown += [UnknownField((*loc, name), known, given) for name in given if name not in known]
    return {
        name: _read(value, known[name].annotation, (*loc, name), unknown) if name in known else value
        for name, value in given.items()
        if name not in known or not _is_absent(value, known[name])
    }


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _inner(forms: Iterable[Any], *kinds: type) -> Any:
    """Returns the type of what a list or object holds; None where it is not declared, and then not looked into."""
    held = [[part for part in get_args(form) if part is not ...] for form in forms if get_origin(form) in kinds]
    return held[0][-1] if held and held[0] else None


def _is_absent(value: Any, info: FieldInfo) -> bool:
    return not info.is_required() and (value is None or (isinstance(value, str) and not value.strip()))


def _forms(declared: Any) -> Iterator[Any]:
    """Yields the types that a value may have: each of a union, without its annotations."""
    if get_origin(declared) is Annotated:
        yield from _forms(get_args(declared)[0])
    elif get_origin(declared) in (Union, UnionType):
        for part in get_args(declared):
            yield from _forms(part)
    else:
        yield declared


def _words(forms: Iterable[Any]) -> list[str]:
    """Lists the words that may stand where there is a choice."""
    choices: list[Any] = []
    for form in forms:
        if get_origin(form) is Literal:
            choices += get_args(form)
        elif isinstance(form, type) and issubclass(form, Enum):
            choices += [member.value for member in form]
    return [choice for choice in choices if isinstance(choice, str)]
