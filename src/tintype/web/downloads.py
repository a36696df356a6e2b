"""Files out: to whoever may read them, in ranges if they like, and never run by a browser as a page of ours."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tintype.errors import BadRequest, Forbidden, NotFound, PreconditionFailed, RangeNotSatisfiable, Unauthorized
from tintype.files import Objects, own_file, public_url
from tintype.files.acl import AccessList, Decision
from tintype.store.records import StoredFile
from tintype.web.auth import identify
from tintype.web.body import json_object, json_value
from tintype.web.operation import answers
from tintype.web.options import acl_of
from tintype.web.platform_schema import AccessSettings
from tintype.web.responses import json_response
from tintype.web.services import Call, Services

LONGEST_SIGNED = 7 * 86400  # seconds that a signed URL opens a file
_PUBLIC = AccessList().to_json()
MOST_RANGES = 16  # in one request; more of them are no use to anyone honest
_CACHED_SECONDS = 3600
_WATCH_SECONDS = 0.5  # between two looks at the key that a download depends on
_RANGE = re.compile(r"\s*([0-9]{0,99})\s*-\s*([0-9]{0,99})\s*")

Span = tuple[int, int]  # first byte, and the one past the last


@answers("*/*", status=(200, 206), empty=(304,))
async def download(call: Call) -> Response:
    """Answers `GET` and `HEAD /cdn/files/{id}/{name}`."""
    file = await call.store.files.find(call.params["file_id"])
    if file is None or file.file_name != call.params["name"]:
        raise no_file()
    reader = await check_reader(call, file)
    headers = file_headers(file)
    asked = call.http.headers
    if not _is_meant(asked, headers, file):
        raise PreconditionFailed("This file is not the one that was asked about.", remedy="Fetch it anew.")
    if _is_known(asked, headers, file):
        return Response(status_code=304, headers=headers)
    spans = spans_of(asked["range"], file.size) if "range" in asked and _range_holds(asked, headers) else None
    if spans == []:
        raise RangeNotSatisfiable(
            f"This file has {file.size} bytes.",
            remedy="Ask for a range within them.",
            headers={"Content-Range": f"bytes */{file.size}"},
        )
    objects = call.services.objects
    if await anyio.to_thread.run_sync(objects.size, file.key) is None:
        raise no_file()
    answer = _answer(file, spans, headers, objects, whole=call.http.method != "HEAD")
    if reader and isinstance(answer, StreamingResponse):
        return KeyStream(answer, call.services, reader)
    return answer


class KeyStream(Response):
    """Sends a stream for as long as the key is in force that it was opened with; then it breaks off, also where the
    receiver stands still."""

    def __init__(self, stream: StreamingResponse, services: Services, key_id: str) -> None:
        self._stream, self._keys, self._key_id = stream, services.store.keys, key_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope)
            await self._stream(scope, receive, send)
            group.cancel_scope.cancel()

    async def _watch(self, sending: anyio.CancelScope) -> None:
        while await self._keys.is_in_use(self._key_id):  # noqa: ASYNC110 (another process may revoke it)
            await anyio.sleep(_WATCH_SECONDS)
        sending.cancel()


def _answer(
    file: StoredFile, spans: list[Span] | None, headers: dict[str, str], objects: Objects, *, whole: bool
) -> Response:
    """Makes the response with the file, or the parts that were asked for; without the bytes unless `whole`."""
    status, media_type = 200 if spans is None else 206, file.content_type
    start, end = spans[0] if spans else (0, file.size)
    length = end - start
    body = objects.read_async(file.key, start, end)
    if spans is not None and len(spans) == 1:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    elif spans is not None:
        boundary = secrets.token_hex(16)
        heads = [_part_head(boundary, file, span) for span in spans]
        tail = f"\r\n--{boundary}--\r\n".encode()
        length = sum(len(head) for head in heads) + sum(end - start for start, end in spans) + len(tail)
        media_type = f"multipart/byteranges; boundary={boundary}"
        body = _parts(objects, file.key, list(zip(heads, spans, strict=True)), tail)
    headers["Content-Length"] = str(length)
    if not whole:
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(body, status, headers, media_type=media_type)


def _part_head(boundary: str, file: StoredFile, span: Span) -> bytes:
    place = f"bytes {span[0]}-{span[1] - 1}/{file.size}"
    return f"\r\n--{boundary}\r\nContent-Type: {file.content_type}\r\nContent-Range: {place}\r\n\r\n".encode()


async def _parts(objects: Objects, key: str, parts: list[tuple[bytes, Span]], tail: bytes) -> AsyncIterator[bytes]:
    for head, (start, end) in parts:
        yield head
        async for chunk in objects.read_async(key, start, end):
            yield chunk
    yield tail


def file_headers(file: StoredFile) -> dict[str, str]:
    """Makes the headers that a file has whatever is asked of it."""
    plain = re.sub(r'[^ !#$%&()*+,./0-9:;<=>?@A-Z\[\]^_`a-z{|}~-]', "_", file.file_name)  # fmt: skip
    mark = hashlib.sha256(f"{file.id} {file.size} {file.created_at}".encode()).hexdigest()[:32]
    kept = _CACHED_SECONDS if file.expires_at is None else min(_CACHED_SECONDS, int(file.expires_at - time.time()))
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{mark}"',
        "Last-Modified": formatdate(file.created_at, usegmt=True),
        "Cache-Control": f"private, max-age={max(0, kept)}" if file.acl is None else "private, no-cache",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.file_name)}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


def spans_of(header: str, size: int) -> list[Span] | None:
    """Reads what a Range header asks for, in its order; empty where it asks only for what lies beyond the end. None
    for what is to be ignored: no ranges of bytes, too many, or more bytes than there are (overlaps asked again and
    again)."""
    unit, equals, text = header.partition("=")
    parts = text.split(",")
    if unit.lower() != "bytes" or not equals or len(parts) > MOST_RANGES:
        return None
    spans: list[Span] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None or not (match[1] or match[2]) or (match[1] and match[2] and int(match[2]) < int(match[1])):
            return None
        start = int(match[1]) if match[1] else max(0, size - int(match[2]))
        end = min(int(match[2]) + 1, size) if match[1] and match[2] else size
        if start < end:
            spans.append((start, end))
    if len(spans) > 1 and sum(end - start for start, end in spans) > size:
        return None
    return spans


def _is_meant(asked: Headers, headers: Mapping[str, str], file: StoredFile) -> bool:
    """Checks If-Match, or else If-Unmodified-Since."""
    marks = asked.get("if-match")
    if marks is not None:
        return marks.strip() == "*" or headers["ETag"] in [mark.strip() for mark in marks.split(",")]
    limit = _seconds(asked.get("if-unmodified-since"))
    return limit is None or int(file.created_at) <= limit


def _is_known(asked: Headers, headers: Mapping[str, str], file: StoredFile) -> bool:
    """Checks If-None-Match, or else If-Modified-Since: whether the caller has the file as it is."""
    marks = asked.get("if-none-match")
    if marks is not None:
        return marks.strip() == "*" or headers["ETag"] in [mark.strip().removeprefix("W/") for mark in marks.split(",")]
    known = _seconds(asked.get("if-modified-since"))
    return known is not None and int(file.created_at) <= known


def _range_holds(asked: Headers, headers: Mapping[str, str]) -> bool:
    """Checks If-Range: whether the file is still the one that the caller has a part of."""
    condition = asked.get("if-range")
    return condition is None or condition.strip() in (headers["ETag"], headers["Last-Modified"])


def _seconds(date: str | None) -> float | None:
    """Reads an HTTP date as unix seconds; None where there is none that can be read, which is then ignored."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, TypeError, OverflowError):
        return None


async def check_reader(call: Call, file: StoredFile) -> str:
    """Returns the id of the key by which the caller of a download may read the file, "" where it needs none. Raises
    Forbidden and NotFound."""
    query, key_id = call.http.query_params, ""
    if file.acl is None:
        return ""
    if await _signed_until(call, file, query):
        return query.get("key", "")
    try:
        key_id = await identify(call.http, call.services)
        decision = await call.store.files.decide(file, key_id)
    except Unauthorized:
        decision = AccessList.from_json(file.acl).decide(())
    if decision is Decision.HIDE:
        raise no_file()
    if decision is Decision.FORBID:
        raise Forbidden(
            "This file is not for everyone.",
            remedy="Ask with the key that it belongs to, or by a signed URL (POST /v1/storage/files/sign).",
        )
    return key_id


async def opened_until(call: Call, file: StoredFile, url: str) -> int:
    """Tells until when (unix seconds) the signature of `url`, which names `file`, opens it; 0 where it does not."""
    return await _signed_until(call, file, {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()})


async def _signed_until(call: Call, file: StoredFile, query: Mapping[str, str]) -> int:
    expires, key_id = query.get("expires", ""), query.get("key", "")
    signature = query.get("signature", "")
    if not call.services.signer.verify("file", _signed_parts(file, expires, key_id), signature):
        return 0
    return int(expires) if int(expires) > time.time() and await call.store.keys.is_in_use(key_id) else 0


def _signed_parts(file: StoredFile, expires: str, key_id: str) -> list[str]:
    return [file.id, expires, key_id] if key_id else [file.id, expires]


@answers({"signed_url": str}, query={"url": str}, body={"expiration_seconds": int})
async def sign_file(call: Call) -> Response:
    """Answers `POST /v1/storage/files/sign?url=…`: a URL that opens a file for a while, whatever its list says."""
    given = (await json_object(call)).get("expiration_seconds")
    if type(given) is not int or not 1 <= given <= LONGEST_SIGNED:
        raise BadRequest(f"expiration_seconds is a whole number from 1 to {LONGEST_SIGNED} (7 days).")
    file = await _own(call)
    expires = str(int(time.time()) + given)
    signature = call.services.signer.sign("file", _signed_parts(file, expires, call.key_id))
    query = urlencode({"expires": expires, "key": call.key_id, "signature": signature})
    return json_response({"signed_url": f"{public_url(call.origin, file.id, file.file_name)}?{query}"})


@answers(AccessSettings, query={"url": str})
async def show_acl(call: Call) -> Response:
    """Answers `GET /v1/storage/files/acl?url=…`."""
    return json_response((await _own(call)).acl or _PUBLIC)


@answers(AccessSettings, query={"url": str}, body=AccessSettings)
async def change_acl(call: Call) -> Response:
    """Answers `PUT /v1/storage/files/acl?url=…` with the whole list."""
    value = await json_value(call)
    if not value:  # a body that was lost on its way must not open a hidden file
        raise BadRequest("The body says nothing about who may read.", remedy='Send {"default": "allow"} for all.')
    acl = acl_of(value, "The body")
    file = await _own(call)
    await call.store.files.set_acl(file.id, acl)
    return json_response(acl or _PUBLIC)


async def _own(call: Call) -> StoredFile:
    """Finds the file that the query names. Raises NotFound, for another person's too."""
    named = own_file(call.http.query_params.get("url", ""), call.is_own_host)
    file = await call.store.files.find(named[0]) if named else None
    if file is None or not await call.store.keys.owns(call.owner, file.key_id):
        raise NotFound("You have no such file.", remedy="The query's url is the URL of a file of this server.")
    return file


def no_file() -> NotFound:
    """Makes the error for a file that is unknown, has expired, was deleted or is hidden: nothing tells which."""
    return NotFound(
        "There is no such file (any more).",
        remedy="Check the URL; a file goes when it expires or is deleted, or its request.",
    )
