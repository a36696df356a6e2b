"""Reads a JSON body of any size within a little memory, and answers what is not JSON with fal's 422."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from starlette.datastructures import QueryParams

from tintype.errors import InputError, PayloadTooLarge, detail
from tintype.files.spool import Spool
from tintype.web.data_uri_extractor import DataUriExtractor
from tintype.web.services import Call

_BATCH = 1024 * 1024  # bytes gathered before a thread is asked to read them
_SMALL = 16 * 1024  # bytes that are read and parsed on the event loop
# Of JSON as Python keeps it, where an empty list takes twenty times the bytes that it took to send.
MOST_VALUES = 60_000
SMALL_BODY = 1024 * 1024  # bytes of a body that is no input of an endpoint: settings, lists of parts
_MOST_DIGITS = 4000  # Python reads a few more
_ENDLESS = object()  # stands for a number that has them
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


@dataclass(frozen=True)
class Body:
    """Holds a parsed body. `spools` are long data URIs on disk, by the placeholder that stands for each in `value`."""

    value: Any
    digest: str = ""  # of the bytes as sent
    spools: Mapping[str, Spool] = field(default_factory=dict)


@asynccontextmanager
async def json_body(call: Call) -> AsyncIterator[Body]:
    """Reads the body of a POST; nothing counts as `{}`. Raises InputError (json_invalid), PayloadTooLarge,
    StorageFull."""
    limit = call.settings.max_body_bytes
    if call.announced_size > limit:
        raise _too_large(limit)
    extractor = DataUriExtractor(lambda: Spool(call.services.uploads.spool_folder, limit=limit))
    try:
        digest = await _receive(call, extractor, limit)
        value = await _parsed(bytes(extractor.rest))
        extractor.rest.clear()
        yield Body(value, digest, extractor.spools)
    finally:
        extractor.discard()


async def _receive(call: Call, extractor: DataUriExtractor, limit: int) -> str:
    digest, batch, size = hashlib.sha256(), bytearray(), 0
    async for chunk in call.body():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        digest.update(chunk)
        batch += chunk
        if len(batch) >= _BATCH:
            full, batch = bytes(batch), bytearray()
            await anyio.to_thread.run_sync(extractor.feed, full)
    if len(batch) < _SMALL:
        extractor.feed(bytes(batch))
    else:
        await anyio.to_thread.run_sync(extractor.feed, bytes(batch))
    extractor.finish()
    return digest.hexdigest()


async def _parsed(text: bytes) -> Any:
    if not text.strip():
        return {}
    try:
        return _value_of(text) if len(text) < _SMALL else await anyio.to_thread.run_sync(_value_of, text)
    except json.JSONDecodeError as problem:
        raise _not_json(f"This is not valid JSON: {problem.msg}.", problem.pos) from None
    except RecursionError:
        raise _not_json("This JSON is nested too deeply.") from None
    except UnicodeDecodeError:
        raise _not_json("This body is binary, or text of another encoding than UTF-8.") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise await anyio.to_thread.run_sync(_endless_number, text) from None


def _value_of(text: bytes) -> Any:
    """Parses JSON whose every character and number of values can be kept. Raises InputError, and what json raises."""
    decoded = text.decode(json.detect_encoding(text), "surrogatepass")
    if _count_values(decoded) > MOST_VALUES:
        raise _not_json(f"This JSON holds more than {MOST_VALUES} values.")
    value = json.loads(decoded)
    broken = _broken_text(value) if _HALF_CHARACTER.search(decoded) else None
    if broken is not None:
        message = "This text holds half a character (a lone surrogate). Send whole characters, as UTF-8."
        raise InputError.from_details([detail(loc=broken, message=message, type_="string_unicode", ctx=None)])
    return value


def _count_values(text: str) -> int:
    """Counts the values that JSON text holds, at most: every one but the first begins after one of these."""
    marks = "[{,:"
    most = sum(map(text.count, marks))
    if most <= MOST_VALUES:  # mostly, and then what stands inside of texts need not be told apart
        return most
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    return sum(map(outside.count, marks))


def _endless_number(text: bytes) -> InputError:
    """Makes the error of a body that holds a longer number than Python reads, which names its place."""
    decoded = text.decode(json.detect_encoding(text), "surrogatepass")
    whole = json.loads(decoded, parse_int=lambda digits: _ENDLESS if len(digits) > _MOST_DIGITS else 0)
    message = "This is a number of thousands of digits, longer than any input takes; send a smaller one."
    loc = _place(whole, lambda value: value is _ENDLESS) or ["body"]
    return InputError.from_details([detail(loc=loc, message=message, type_="json_invalid", ctx=None)])


def _broken_text(whole: Any) -> list[str | int] | None:
    """Finds where JSON text (or a name) holds what no encoding can write: it could be neither stored nor sent on."""
    return _place(whole, lambda value: isinstance(value, str) and not _is_whole(value))


def _place(whole: Any, is_meant: Callable[[Any], bool]) -> list[str | int] | None:
    """Finds the first value (or name, which is said by its object's place) that is meant."""
    waiting: list[tuple[list[str | int], Any]] = [(["body"], whole)]
    while waiting:
        loc, value = waiting.pop()
        if is_meant(value):
            return loc
        if isinstance(value, dict):
            if any(map(is_meant, value)):
                return loc
            waiting += [([*loc, name], part) for name, part in value.items()]
        elif isinstance(value, list):
            waiting += [([*loc, index], part) for index, part in enumerate(value)]
    return None


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_json(message: str, position: int | None = None) -> InputError:
    message += " Send a JSON object with Content-Type: application/json."
    problem = InputError(message)
    loc: list[str | int] = ["body"] if position is None else ["body", position]  # of the byte, which is no list's index
    problem.details = [detail(loc=loc, message=message, type_="json_invalid", ctx=None)]
    return problem


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"This body is larger than {limit // (1024 * 1024)} MiB, the most that is taken here.",
        remedy="Upload large files first and send their URLs, or raise TINTYPE_MAX_BODY_BYTES on the server.",
    )


async def json_value(call: Call, key_id: str | None = None) -> Any:
    """Reads a small JSON body, of which nothing goes to disk; nothing counts as `{}`. Raises as `json_body`, and as
    `Call.body` for a key."""
    text = bytearray()
    if call.announced_size > SMALL_BODY:
        raise _too_large(SMALL_BODY)
    async for chunk in call.body(key_id):
        text += chunk
        if len(text) > SMALL_BODY:
            raise _too_large(SMALL_BODY)
    return await _parsed(bytes(text))


async def json_object(call: Call) -> Mapping[str, Any]:
    """Reads a small JSON object; anything else counts as an empty one."""
    value = await json_value(call)
    return value if isinstance(value, dict) else {}


def query_body(query: QueryParams) -> Body:
    """Takes the inputs of a GET from its query: every value is text, a repeated one a list; fal's own parameters are
    no inputs."""
    value: dict[str, Any] = {}
    for name in query:
        if not name.startswith("fal_"):
            values = query.getlist(name)
            value[name] = values[0] if len(values) == 1 else values
    return Body(value, hashlib.sha256(str(query).encode("utf-8", "replace")).hexdigest())
