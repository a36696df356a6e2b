"""Files that not everybody may read: who may, for how long a signed URL opens one, and changing it later.

A file belongs to the person whose key uploaded it or made the request. Its list names persons, or single keys by id.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.responses import Response

from tintype.errors import BadRequest, Forbidden, NotFound, Unauthorized
from tintype.files import own_file, public_url
from tintype.files.acl import AccessList, Decision
from tintype.store.records import StoredFile
from tintype.web.auth import identify, is_visible, is_visible_to
from tintype.web.body import json_body
from tintype.web.lifecycle import acl_of
from tintype.web.responses import json_response
from tintype.web.services import Call

LONGEST_SIGNED = 7 * 86400  # seconds
_PUBLIC = AccessList().to_json()


async def check_reader(call: Call, file: StoredFile) -> None:
    """Raises Forbidden or NotFound unless the caller of a download, who needs no key as such, may read the file."""
    if file.acl is None or _is_signed(call, file, call.http.query_params):
        return
    try:
        decision = await _decision(call, file, await identify(call.http, call.services))
    except Unauthorized:
        decision = AccessList.from_json(file.acl).decide(())
    if decision is Decision.HIDE:
        raise no_file()
    if decision is Decision.FORBID:
        raise Forbidden(
            "This file is not for everyone.",
            remedy="Ask with the key that it belongs to, or by a signed URL (POST /v1/storage/files/sign).",
        )


async def may_use(call: Call, file: StoredFile, url: str) -> bool:
    """Whether a caller with a key may have the file at `url` read for a request."""
    if file.acl is None:
        return True
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    return _is_signed(call, file, query) or await _decision(call, file, call.key_id) is Decision.ALLOW


async def _decision(call: Call, file: StoredFile, key_id: str) -> Decision:
    """For a caller with a key."""
    if await is_visible_to(key_id, file.key_id, call.services):
        return Decision.ALLOW
    names = {key.name for key in await call.queue.keys() if key.id == key_id}
    return AccessList.from_json(file.acl).decide({key_id, *names})


def _is_signed(call: Call, file: StoredFile, query: Mapping[str, str]) -> bool:
    expires = query.get("expires", "")
    if not expires.isdecimal() or not call.services.signer.verify(
        "file", [file.id, expires], query.get("signature", "")
    ):
        return False
    return int(expires) > time.time()


async def sign_file(call: Call) -> Response:
    """`POST /v1/storage/files/sign?url=…`: a URL that opens a file for a while, whatever its list says."""
    async with json_body(call) as body:
        given = body.value.get("expiration_seconds") if isinstance(body.value, dict) else None
    if type(given) is not int or not 1 <= given <= LONGEST_SIGNED:
        raise BadRequest(f"expiration_seconds is a whole number from 1 to {LONGEST_SIGNED} (7 days).")
    file = await _own(call)
    expires = str(int(time.time()) + given)
    query = urlencode({"expires": expires, "signature": call.services.signer.sign("file", [file.id, expires])})
    return json_response({"signed_url": f"{public_url(call.origin, file.id, file.file_name)}?{query}"})


async def show_acl(call: Call) -> Response:
    """`GET /v1/storage/files/acl?url=…`."""
    return json_response((await _own(call)).acl or _PUBLIC)


async def change_acl(call: Call) -> Response:
    """`PUT /v1/storage/files/acl?url=…` with the whole list."""
    async with json_body(call) as body:
        if not body.value:  # a body that was lost on its way must not open a hidden file
            raise BadRequest("The body says nothing about who may read.", remedy='Send {"default": "allow"} for all.')
        acl = acl_of(body.value, "The body")
    file = await _own(call)
    await call.queue.set_acl(file.id, acl)
    return json_response(acl or _PUBLIC)


async def _own(call: Call) -> StoredFile:
    """The file that the query names. Raises NotFound, for another person's too."""
    named = own_file(call.http.query_params.get("url", ""))
    file = await call.queue.find_file(named[0]) if named else None
    if file is None or not await is_visible(call, file.key_id):
        raise NotFound("You have no such file.", remedy="The query's url is the URL of a file of this server.")
    return file


def no_file() -> NotFound:
    """The error for a file that is unknown, has expired or is hidden: nothing tells which."""
    return NotFound("There is no such file (any more).", remedy="Check the URL; files may have been set to expire.")
