"""What an endpoint is: one declaration from which validation, 422 bodies, OpenAPI, pages and forms all follow.

Inputs are Pydantic models that ignore unknown fields (as fal's models do); `unknown_fields` names them, so that the
log can tell a person about the typo instead of the server refusing the request. How else an input may be spelt is in
`spelling`.
"""

from __future__ import annotations

import gc
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tintype.catalog.form import plainly
from tintype.catalog.price import FREE, Price
from tintype.catalog.spelling import as_declared
from tintype.errors import InputError, Json, detail, where

Kind = Literal["training", "inference"]


_TRAINING = re.compile("training|trainer|trained|fine-?tun(?:e|ed|ing)")


class EndpointInput(BaseModel):
    """Is the root of every endpoint's input: unknown fields are ignored, numbers may arrive as text (GET queries)."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_declared(cls, given: Any) -> Any:
        return as_declared(given, cls).value


class EndpointOutput(BaseModel):
    """Is the root of every endpoint's output: exactly the published fields."""

    model_config = ConfigDict(extra="forbid")


def _not_counted(_input: EndpointInput) -> float:
    return 0.0


@dataclass(frozen=True)
class Endpoint:
    """Declares a published endpoint. `job` is a dotted path `module:function`, resolved only in the compute child."""

    id: str
    title: str
    category: str
    kind: Kind
    description: str
    input: type[EndpointInput]
    output: type[EndpointOutput]
    job: str
    base: str  # the base model it works with, as `tintype weights` calls it
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    price: Price = FREE  # at fal
    operations: Callable[[Any], float] = _not_counted  # of a parsed input: see operations.py

    def has_words(self, words: str) -> bool:
        """Tells whether all of these words stand in what the endpoint says of itself, in any case.

        However training is called, it is one word.
        """
        told = " ".join((self.id, self.title, self.description, self.category, *self.tags)).lower()
        return all(_TRAINING.sub("train", word) in told for word in words.lower().split())

    def parse(self, body: object) -> EndpointInput:
        """Validates a request body. Raises InputError with fal's `loc`, `msg`, `type`, `ctx` and `input`."""
        if not isinstance(body, Mapping):
            raise InputError("The body must be a JSON object.", remedy='Send the inputs as {"name": value, …}.')
        try:
            return self.input.model_validate(body)
        except ValidationError as problem:
            errors = _as_meant(problem.errors(include_url=False))
            raise InputError.from_details([self._as_fal(error) for error in errors]) from None

    def _as_fal(self, error: Any) -> Json:
        told = error.get("ctx", {}).items()
        ctx = {name: value for name, value in told if isinstance(value, int | float | str | list)}
        if error["type"] in ("literal_error", "enum"):
            expected = str(ctx.get("expected", "")).replace(" or ", ", ").split(",")
            ctx = {"expected": [part.strip().strip("'") for part in expected]}
        return detail(
            loc=("body", *error["loc"]),
            message=plainly(error, self.input.model_fields),
            type_=_FAL_TYPES.get(error["type"], error["type"]),
            ctx=ctx,
            given=_echo(error.get("input")),
        )

    def load_job(self) -> Callable[..., Any]:
        """Imports the function that does the work, unless it is here already; only for processes that compute.

        Nothing is garbage while torch and diffusers are imported, nor later of what they consist of; looking for it
        would take a fifth of the time here, and a quarter of that of loading the models.
        """
        module, _, function = self.job.partition(":")
        if module not in sys.modules and gc.isenabled():
            gc.disable()
            try:
                importlib.import_module(module)
            finally:
                gc.freeze()
                gc.enable()
        job: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return job

    def unknown_fields(self, body: Mapping[str, Any], most: int = 20) -> list[tuple[str, str | None]]:
        """Fields the endpoint does not know, at whatever depth, each with the nearest known name; the first `most`."""
        return [(where(field.loc), field.nearest) for field in as_declared(body, self.input).unknown[:most]]


# Pydantic's names for what fal calls otherwise (WIRE §4.1); everything else passes through.
_FAL_TYPES = {
    "too_short": "sequence_too_short",
    "too_long": "sequence_too_long",
    "string_too_short": "sequence_too_short",
    "string_too_long": "sequence_too_long",
    "literal_error": "one_of",
    "enum": "one_of",
    "finite_number": "value_error",
}
_LARGEST_ECHO = 200  # characters of a bad value that are worth sending back
_LARGEST_NUMBER = 660  # bits: about as many digits


def _as_meant(errors: Sequence[Any]) -> list[Any]:
    """Leaves out the errors of alternatives that were not meant, and the names of alternatives in `loc`.

    Where a word or an object may stand, an object was meant as that, and anything else as the word.
    """
    told: list[Any] = []
    words = {error["loc"][:-1]: error for error in errors if str((error["loc"] or ("",))[-1]).startswith("literal[")}
    for error in errors:
        place = next((place for place in words if error["loc"][: len(place)] == place), None)
        if place is None:
            told.append(error)
        elif isinstance(words[place]["input"], Mapping):
            if error is not words[place]:
                told.append({**error, "loc": (*place, *error["loc"][len(place) + 1 :])})
        elif error is words[place]:
            told.append({**error, "loc": place, "msg": f"{error['msg']}, or an object with its own fields"})
    return told


def _echo(given: object) -> object:
    """Makes what was sent safe to send back: NaN as text, long values cut, bytes named."""
    if isinstance(given, bytes):
        return f"<binary {len(given)} bytes>"
    if isinstance(given, float) and (given != given or given in (float("inf"), float("-inf"))):
        return str(given)
    if isinstance(given, int) and given.bit_length() > _LARGEST_NUMBER:
        return None
    if isinstance(given, str) and len(given) > _LARGEST_ECHO:
        return given[:_LARGEST_ECHO] + "…"
    if isinstance(given, dict | list):
        return None
    return given
