"""What a handler says of itself, of which the OpenAPI document is made: what it is sent, and what it answers.

An Operation is a handler whose parameters and answer are Pydantic models, which check what it is sent as well; the
platform API is made of these.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import Response

from tintype.catalog.form import form_of, plainly
from tintype.errors import BadRequest
from tintype.web.body import json_value
from tintype.web.responses import json_response
from tintype.web.services import Call

IDEMPOTENCY_KEY = "Idempotency-Key"  # of operations that name this header
_MOST_PROBLEMS = 5  # told at once
_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """Says what is sent and answered: each is a type, a shape such as {"name": str}, or a media type; None for nothing.

    A tuple of several means any of them, as the caller prefers.
    """

    answer: Any = None
    query: Any = None
    body: Any = None
    headers: Sequence[str] = ()
    status: Sequence[int] = (200,)
    empty: Sequence[int] = ()  # statuses that come without content


def answers(answer: Any, **more: Any) -> Callable[[_Handler], _Handler]:
    """Has a handler say what it answers, and whatever else a Declaration has."""

    def declare(handler: _Handler) -> _Handler:
        handler.__dict__["declaration"] = Declaration(answer, **more)
        return handler

    return declare


@dataclass(frozen=True)
class Operation:
    """Is called as any handler; `query`, `body` and `answer` are its models, None where there is nothing."""

    handler: Callable[..., Awaitable[BaseModel | None]]
    query: type[BaseModel] | None
    body: Any
    answer: type[BaseModel] | None
    status: int
    headers: Sequence[str]

    @property
    def __name__(self) -> str:
        return self.handler.__name__

    @property
    def declaration(self) -> Declaration:
        """Says what its models say."""
        told = {"status": (self.status,)} if self.answer else {"status": (), "empty": (self.status,)}
        return Declaration(self.answer, self.query, self.body, self.headers, **told)

    async def __call__(self, call: Call) -> Response:
        key = call.http.headers.get(IDEMPOTENCY_KEY, "") if IDEMPOTENCY_KEY in self.headers else ""
        if not key:
            return await self._answer(call)
        asked, kept = (call.key_id, call.http.method, call.http.url.path, key[:255]), call.services.kept_answers
        if told := kept.get(asked, time.monotonic()):
            return Response(told[1], told[0], media_type="application/json" if told[1] else None)
        response = await self._answer(call)
        kept.put(asked, response.status_code, bytes(response.body), time.monotonic())
        return response

    async def _answer(self, call: Call) -> Response:
        given: dict[str, Any] = {}
        if self.query is not None:
            given["query"] = _checked(self.query, _values(self.query, call.http.query_params))
        if self.body is not None:
            given["body"] = _checked(self.body, await json_value(call), strict=True)
        answer = await self.handler(call, **given)
        if answer is None:
            return Response(status_code=self.status)
        return json_response(answer.model_dump(mode="json", exclude_unset=True), self.status)


def operation(
    *, status: int = 200, headers: Sequence[str] = ()
) -> Callable[[Callable[..., Awaitable[BaseModel | None]]], Operation]:
    """Makes an operation of a handler, whose annotations name the models of its `query`, its `body` and its answer."""

    def declare(handler: Callable[..., Awaitable[BaseModel | None]]) -> Operation:
        hints = get_type_hints(handler, include_extras=True)
        made = hints["return"]
        answer = made if inspect.isclass(made) and issubclass(made, BaseModel) else None
        return Operation(handler, hints.get("query"), hints.get("body"), answer, status, headers)

    return declare


def _values(model: type[BaseModel], query: QueryParams) -> Mapping[str, Any]:
    """Takes what a model names out of a query: all values for a list, the last one for anything else."""
    return {
        name: query.getlist(name) if _is_list(field.annotation) else query[name]
        for name, field in model.model_fields.items()
        if name in query
    }


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_list(get_args(annotation)[0])
    return get_origin(annotation) is list or any(_is_list(part) for part in get_args(annotation))


def _checked(model: Any, given: Any, *, strict: bool = False) -> Any:
    try:
        return TypeAdapter(model).validate_python(given, strict=strict)
    except ValidationError as problem:
        told = [_sentence(error, model) for error in problem.errors(include_url=False)[:_MOST_PROBLEMS]]
        form = f"The body has the form {form_of(model)}; " if strict else ""  # `strict` is only asked of bodies
        raise BadRequest(" ".join(told), remedy=f"{form}/openapi.json says what this route takes.") from None


def _sentence(error: Any, model: Any) -> str:
    if error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        name = error["ctx"]["discriminator"].strip("'")
        return f"{name}: Send one of {', '.join(_tags(model, name))}."
    place = ".".join(str(part) for part in error["loc"]) or "The body"
    return f"{place[:100]}: {plainly(error, getattr(model, 'model_fields', {}))}"


def _tags(model: Any, name: str) -> Iterator[str]:
    """Yields the words by which the alternatives of a body are told apart."""
    for part in get_args(get_args(model)[0]):
        yield from get_args(part.model_fields[name].annotation)
