"""Files out: to anyone who knows the URL, in ranges if they like, and never run by a browser as a page of ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from email.utils import formatdate
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import Response, StreamingResponse

from tintype.errors import NotFound, RangeNotSatisfiable
from tintype.queue.records import StoredFile
from tintype.web.answers import failed
from tintype.web.services import Call

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


async def download(call: Call) -> Response:
    """`GET` and `HEAD /cdn/files/{id}/{name}`."""
    file = await call.queue.find_file(call.params["file_id"])
    if file is None or file.file_name != call.params["name"]:
        raise _no_file()
    headers = file_headers(file)
    if _unchanged(call, headers):
        return Response(status_code=304, headers=headers)
    wanted = call.http.headers.get("range") if _range_holds(call, headers) else None
    start, end = 0, file.size
    partial = False
    if wanted is not None:
        span = span_of(wanted, file.size)
        if span == UNSATISFIABLE:
            problem = RangeNotSatisfiable(f"This file has {file.size} bytes.", remedy="Ask for a range within them.")
            answer = failed(problem.failure(), call.origin)
            answer.headers["Content-Range"] = f"bytes */{file.size}"
            return answer
        if span is not None:
            (start, end), partial = span, True
    headers["Content-Length"] = str(end - start)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    status = 206 if partial else 200
    objects = call.services.objects
    if await anyio.to_thread.run_sync(objects.size, file.key) is None:
        raise _no_file()
    if call.http.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.content_type)
    return StreamingResponse(objects.read_async(file.key, start, end), status, headers, media_type=file.content_type)


def file_headers(file: StoredFile) -> dict[str, str]:
    """What is said about a file whatever is asked of it."""
    plain = re.sub(r'[^ !#$%&()*+,./0-9:;<=>?@A-Z\[\]^_`a-z{|}~-]', "_", file.file_name)  # fmt: skip
    mark = hashlib.sha256(f"{file.id} {file.size} {file.created_at}".encode()).hexdigest()[:32]
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{mark}"',
        "Last-Modified": formatdate(file.created_at, usegmt=True),
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.file_name)}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


UNSATISFIABLE = (-1, -1)


def span_of(header: str, size: int) -> tuple[int, int] | None:
    """(start, end past the last byte) of a single range; None for what is not one, which is then ignored."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        last = int(match[2])
        return (max(0, size - last), size) if last and size else UNSATISFIABLE
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    return (start, end) if start < size else UNSATISFIABLE


def _unchanged(call: Call, headers: Mapping[str, str]) -> bool:
    known = call.http.headers.get("if-none-match")
    if known is None:
        return False
    return known.strip() == "*" or headers["ETag"] in [mark.strip().removeprefix("W/") for mark in known.split(",")]


def _range_holds(call: Call, headers: Mapping[str, str]) -> bool:
    """Whether the file is still the one that the caller has a part of."""
    condition = call.http.headers.get("if-range")
    return condition is None or condition.strip() in (headers["ETag"], headers["Last-Modified"])


def _no_file() -> NotFound:
    return NotFound("There is no such file (any more).", remedy="Check the URL; files may have been set to expire.")
