"""Uploads, as both of fal's clients do them: a signed PUT, one POST of bytes, or many parts, streamed to disk.

The two clients differ in nearly everything but the result: a URL whose file can be read by whoever knows it. A part
answers with its etag twice, in a header (Python reads that) and in a body (JavaScript reads this).
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio.to_thread
from starlette.responses import Response

from tintype.errors import BadRequest, Forbidden, NotFound
from tintype.files import new_file_id, public_url, safe_file_name
from tintype.files.formats import content_type_of_name, suffix_of_type
from tintype.files.spool import Spool
from tintype.files.uploads import MOST_PARTS, STALE_SECONDS, Upload
from tintype.files.urls import is_file_id
from tintype.store.records import StoredFile
from tintype.web.body import json_object, json_value
from tintype.web.operation import answers
from tintype.web.options import Lifecycle, lifecycle_for
from tintype.web.responses import json_response
from tintype.web.services import Call
from tintype.web.signing import TOKEN_SECONDS, UPLOAD_SECONDS

_CONTENT_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}(?:\s*;[\x20-\x7e]{0,100})?", re.ASCII)
_ANY_TYPES = ("", "application/octet-stream", "binary/octet-stream")
_SIGNED = ("expires", "type", "lifetime", "acl", "key")  # query parameters of a signed upload URL, in signing order
_NAMED = {"file_name": str, "content_type": str}


@answers({"upload_url": str, "file_url": str}, body=_NAMED)
async def initiate_upload(call: Call) -> Response:
    """Answers `POST /rest/storage/upload/initiate`: where to PUT the bytes, and where they can then be read."""
    name, content_type = await _named(call)
    file_id = new_file_id()
    lifecycle = await lifecycle_for(call)
    signed = {
        "expires": str(int(time.time() + UPLOAD_SECONDS)),
        "type": content_type,
        "lifetime": "" if lifecycle.lifetime is None else str(lifecycle.lifetime),
        "acl": "" if lifecycle.acl is None else json.dumps(lifecycle.acl, separators=(",", ":")),
        "key": call.key_id,
    }
    signature = call.services.signer.sign("upload", [file_id, name, *signed.values()])
    # The name goes into both URLs in the same form, so that what was signed is what arrives.
    file_url = public_url(call.origin, file_id, name)
    path = file_url.removeprefix(f"{call.origin}/cdn/")
    query = urlencode({**signed, "signature": signature})
    return json_response({"upload_url": f"{call.origin}/rest/storage/upload/{path}?{query}", "file_url": file_url})


@answers({"file_url": str}, query=dict.fromkeys((*_SIGNED, "signature"), str), body="*/*")
async def signed_upload(call: Call) -> Response:
    """Answers `PUT` of the bytes to a URL that initiate gave. The URL is the permission, while its key is in force;
    once there is a file, it takes the same bytes only."""
    file_id, name, query = call.params["file_id"], call.params["name"], call.http.query_params
    signed = [query.get(part, "") for part in _SIGNED]
    if not call.services.signer.verify("upload", [file_id, name, *signed], query.get("signature", "")):
        raise Forbidden("This upload URL was not made here, or was changed.", remedy="Ask for a new one.")
    expires, content_type, lifetime, acl, key_id = signed
    if int(expires) < time.time():
        raise Forbidden("This upload URL has expired.", remedy="Ask for a new one.")
    lifecycle = Lifecycle(float(lifetime) if lifetime else None, json.loads(acl) if acl else None)
    await call.services.check_in_force(key_id)
    await _receive(call, file_id, name, content_type, lifecycle, key_id)
    return json_response({"file_url": public_url(call.origin, file_id, name)})


@answers({"access_url": str}, body="*/*")
async def direct_upload(call: Call) -> Response:
    """Answers `POST /cdn/files/upload` of the bytes."""
    file_id, (name, content_type) = new_file_id(), named_by_headers(call)
    await _receive(call, file_id, name, content_type, await lifecycle_for(call), call.key_id)
    return json_response({"access_url": public_url(call.origin, file_id, name)})


@answers({"token": str, "token_type": str, "base_url": str, "expires_at": str})
async def upload_token(call: Call) -> Response:
    """Answers `POST /rest/storage/auth/token`: what the Python client sends bytes with."""
    expires_at = time.time() + TOKEN_SECONDS
    return json_response(
        {
            "token": call.services.signer.token(call.key_id, expires_at),
            "token_type": "Bearer",
            "base_url": f"{call.origin}/cdn",
            # An explicit offset: older Pythons read no Z, and a time without a zone compares with nothing.
            "expires_at": datetime.fromtimestamp(int(expires_at), UTC).isoformat(),
        }
    )


@answers({"upload_url": str, "file_url": str}, body=_NAMED)
async def initiate_parts(call: Call) -> Response:
    """Answers `POST /rest/storage/upload/initiate-multipart`."""
    name, content_type = await _named(call)
    upload = await _begin(call, name, content_type)
    return json_response(
        {
            "upload_url": f"{call.origin}/rest/storage/upload/parts/{upload.id}",
            "file_url": public_url(call.origin, upload.file_id, name),
        }
    )


@answers({"access_url": str, "uploadId": str})
async def begin_parts(call: Call) -> Response:
    """Answers `POST /cdn/files/upload/multipart`."""
    name, content_type = named_by_headers(call)
    upload = await _begin(call, name, content_type)
    return json_response({"access_url": public_url(call.origin, upload.file_id, name), "uploadId": upload.id})


@answers({"partNumber": int, "etag": str}, body="*/*")
async def upload_part(call: Call) -> Response:
    """Answers `PUT …/{n}` of one part."""
    upload, number = await _upload(call), int(call.params["number"])
    if await call.store.files.find(upload.file_id) is not None:
        raise _final()

    async def count(size: int) -> None:
        """Counts the parts as a file that nobody is shown, until the whole takes its place or they have gone stale."""
        now, hidden = time.time(), {"default": "hide"}
        ends = now + STALE_SECONDS
        parts = StoredFile(upload.id, "parts", "", size, now, expires_at=ends, key_id=upload.key_id, acl=hidden)
        await call.store.files.add(parts)

    uploads = call.services.uploads
    earlier = await anyio.to_thread.run_sync(uploads.size_without, upload, number)
    await _check_room(call, upload.key_id, earlier + call.announced_size, upload.id)
    etag = await uploads.receive_part(upload, number, call.body(upload.key_id), count)
    return json_response({"partNumber": number, "etag": etag}, headers={"ETag": etag})


@answers({"upload_url": str})
async def part_url(call: Call) -> Response:
    """Answers `POST …/{n}`: where to PUT one part; the older clients ask before each."""
    upload = await _upload(call)
    return json_response({"upload_url": f"{call.origin}/rest/storage/upload/parts/{upload.id}/{call.params['number']}"})


@answers({"file_url": str, "access_url": str}, body={"parts": [{"partNumber": int, "etag": str}]})
async def complete_parts(call: Call) -> Response:
    """Answers `POST …/complete` with the parts in any order; asked again, the same answer."""
    uploads, upload = call.services.uploads, await _upload(call)
    etags = _etags(await json_value(call, upload.key_id))
    url = public_url(call.origin, upload.file_id, upload.file_name)
    async with call.services.turn(upload.id):
        if await call.store.files.find(upload.file_id) is None:
            whole = await anyio.to_thread.run_sync(uploads.assemble, upload, etags)
            try:
                lifecycle = Lifecycle(upload.lifetime, upload.acl)
                named = (upload.file_id, upload.file_name, upload.content_type)
                await _keep(call, whole, *named, lifecycle, upload.key_id, replaces=upload.id)
            finally:
                await anyio.to_thread.run_sync(lambda: whole.unlink(missing_ok=True))
            await anyio.to_thread.run_sync(uploads.discard_parts, upload)
    return json_response({"file_url": url, "access_url": url})


async def _upload(call: Call) -> Upload:
    """Finds the upload that a URL names. Raises NotFound, and Unauthorized once its key was revoked."""
    upload = call.services.uploads.find(call.params["upload_id"])
    await call.services.check_in_force(upload.key_id)
    file_id = call.params.get("file_id", upload.file_id)
    if file_id != upload.file_id:
        raise NotFound("This upload belongs to another file.", remedy="Begin the upload again.")
    return upload


async def _begin(call: Call, name: str, content_type: str) -> Upload:
    lifecycle = await lifecycle_for(call)
    return await anyio.to_thread.run_sync(
        lambda: call.services.uploads.begin(
            file_name=name,
            content_type=content_type,
            key_id=call.key_id,
            lifetime=lifecycle.lifetime,
            acl=lifecycle.acl,
        )
    )


async def _named(call: Call) -> tuple[str, str]:
    """Reads file name and content type from the body of an initiation."""
    given = await json_object(call)
    name, content_type = given.get("file_name"), given.get("content_type")
    safe_name = safe_file_name(name if isinstance(name, str) else None)
    return safe_name, _safe_type(content_type if isinstance(content_type, str) else "", safe_name)


def named_by_headers(call: Call) -> tuple[str, str]:
    """Reads file name and content type of a body that is a file."""
    headers = call.http.headers
    # HTTP header values are bytes; names beyond ASCII arrive as UTF-8.
    raw = headers.get("x-fal-file-name", "").encode("latin-1", "replace").decode("utf-8", "replace")
    said = headers.get("content-type", "")
    name = safe_file_name(raw, default="file" + suffix_of_type(said))
    return name, _safe_type(said, name)


def _safe_type(content_type: str, name: str) -> str:
    """Returns the type that was said, unless it says nothing: then what the name's suffix means."""
    if _CONTENT_TYPE.fullmatch(content_type) and content_type not in _ANY_TYPES:
        return content_type
    return content_type_of_name(name)


async def _receive(call: Call, file_id: str, name: str, content_type: str, lifecycle: Lifecycle, key_id: str) -> None:
    """Keeps the body of a call as a file."""
    if not is_file_id(file_id):
        raise NotFound("There is no such upload.")
    await _check_room(call, key_id, call.announced_size, file_id)
    spool: Spool = call.services.uploads.spool()
    try:
        await spool.receive(call.body(key_id))
        await _keep(call, spool.path, file_id, name, content_type, lifecycle, key_id)
    finally:
        spool.discard()


async def _check_room(call: Call, key_id: str, size: int, file_id: str) -> None:
    """Raises, before a byte of a body is read, what its announced size decides: PayloadTooLarge and LimitReached."""
    call.services.uploads.check_size(size)
    await call.store.files.check_room(key_id, size, replaces=file_id)


async def _keep(
    call: Call, path: Path, file_id: str, name: str, content_type: str, lifecycle: Lifecycle, key_id: str, *,
    replaces: str = "",
) -> None:  # fmt: skip
    """Keeps bytes first, then the row: a file that can be found can be read. Sent again, it stays as it is, and so does
    who may read it; other bytes are refused. What it `replaces` is not counted any more."""
    async with call.services.turn(file_id):
        earlier = await call.store.files.find(file_id)
        if earlier is not None:
            if not await anyio.to_thread.run_sync(call.services.objects.holds, earlier.key, path):
                raise _final()
            return
        size = await call.services.objects.put_path_async(f"{file_id}/{name}", path, move=True)
        now = time.time()
        ends = lifecycle.ends(now)
        file = StoredFile(file_id, name, content_type, size, now, expires_at=ends, key_id=key_id, acl=lifecycle.acl)
        await call.services.add_file(file, replaces=replaces)


def _final() -> Forbidden:
    return Forbidden("This upload is complete; its content stays as it is.", remedy="Begin another upload.")


def _etags(given: Any) -> dict[int, str]:
    """Reads part numbers and etags of a completion. Raises BadRequest."""
    parts = given.get("parts", []) if isinstance(given, dict) else None
    etags: dict[int, str] = {}
    for part in parts if isinstance(parts, list) else [None]:
        number = part.get("partNumber", part.get("part_number")) if isinstance(part, dict) else None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST_PARTS:
            raise BadRequest(
                "The parts were not understood.", remedy='Send {"parts": [{"partNumber": 1, "etag": "…"}, …]}.'
            )
        etags[number] = str(part.get("etag") or part.get("ETag") or "") if isinstance(part, dict) else ""
    return etags
