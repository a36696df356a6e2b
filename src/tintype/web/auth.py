"""Who asks: `Authorization: Key <id>:<secret>` or `Bearer …`, in any case, or a token in a key's place.

Tokens are short-lived. One kind uploads. The other is what a web page may hold instead of a key, good for running the
applications it names and nothing else: fal's clients ask for it before they stream from a browser or speak realtime,
and pass it in the URL, where no header can be sent. Either ends with its time or with the key that it stands for. A
browser that signed in to the pages has a cookie instead (session.py).
"""

from __future__ import annotations

import time
from enum import Enum, auto

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tintype.errors import BadRequest, Forbidden, Unauthorized
from tintype.fal import REHEARSAL_PREFIX, asks_for_rehearsal
from tintype.store.records import Scope
from tintype.web.body import json_object
from tintype.web.operation import answers
from tintype.web.responses import json_response
from tintype.web.services import KEY_REMEDY, Call, Services
from tintype.web.session import session_key

TOKEN_PARAMETER = "fal_jwt_token"
DEFAULT_SECONDS = 120
LONGEST_SECONDS = 24 * 3600
_MOST_APPS = 100


class Credential(Enum):
    """Names what a path asks of its caller."""

    NONE = auto()  # it is for everyone, or the URL is the permission
    KEY = auto()
    KEY_OR_UPLOAD_TOKEN = auto()
    KEY_OR_APP_TOKEN = auto()
    ADMIN_KEY = auto()
    SESSION = auto()  # a page, which sends whoever is not signed in to where one does that


async def identify(
    http: HttpRequest, services: Services, asks: Credential = Credential.KEY, *, changes: bool = False
) -> str:
    """Finds the id of the caller's key; "" where none is asked for. A session stands for its key; where the caller
    `changes` something, only on a page of this server. Raises Unauthorized and Forbidden."""
    if asks is Credential.NONE or services.settings.auth == "off":
        return ""
    if asks is Credential.SESSION:
        return await session_key(http, services, changes=changes)
    scheme, _, credential = http.headers.get("authorization", "").strip().partition(" ")
    credential = credential.strip()
    if asks_for_rehearsal(http.headers.get("authorization", "")):
        credential = credential[len(REHEARSAL_PREFIX) :]
    if not credential and asks is Credential.KEY_OR_APP_TOKEN and TOKEN_PARAMETER in http.query_params:
        return await _key_behind(http, services)
    if not credential and (signed_in := await session_key(http, services, changes=changes)):
        if asks is Credential.ADMIN_KEY and not await services.store.keys.is_admin(signed_in):
            raise _admin_only()
        return signed_in
    if not credential:
        raise Unauthorized("This needs a key.", remedy=KEY_REMEDY)
    if scheme.lower() not in ("key", "bearer"):
        raise Unauthorized("The Authorization header is neither Key nor Bearer.", remedy=KEY_REMEDY)
    if asks is Credential.KEY_OR_UPLOAD_TOKEN:
        key_id = services.signer.token_key(credential)
        if key_id is not None:
            await services.check_in_force(key_id)
            return key_id
    key = await services.store.keys.check(credential)
    if key is None:
        raise Unauthorized("This key is not known here, or was revoked.", remedy=KEY_REMEDY)
    if asks is Credential.ADMIN_KEY and key.scope is not Scope.ADMIN:
        raise _admin_only()
    return key.id


def _admin_only() -> Forbidden:
    return Forbidden(
        "This needs an ADMIN key.", remedy="`tintype keys create --scope ADMIN --name …` makes one on the server."
    )


@answers(str, body={"allowed_apps": list[str], "token_expiration": float})
async def issue_token(call: Call) -> Response:
    """Answers `POST /rest/tokens/`: a bare JSON string."""
    given = await json_object(call)
    apps = given.get("allowed_apps")
    named = isinstance(apps, list) and 0 < len(apps) <= _MOST_APPS and all(isinstance(app, str) for app in apps)
    if not named:
        raise BadRequest(
            "A token is for certain applications, and none was named.",
            remedy='Send {"allowed_apps": ["flux-lora"], "token_expiration": 120}.',
        )
    seconds = given.get("token_expiration", given.get("duration", DEFAULT_SECONDS))
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_SECONDS:
        raise BadRequest(f"token_expiration is a number of seconds, above 0 and at most {LONGEST_SECONDS}.")
    rehearses = asks_for_rehearsal(call.http.headers.get("authorization", ""))
    named_key = REHEARSAL_PREFIX + call.key_id if rehearses else call.key_id
    return json_response(call.services.signer.app_token(named_key, apps or [], time.time() + seconds))


async def _key_behind(http: HttpRequest, services: Services) -> str:
    """Finds the id of the key that a token in the URL stands for. Raises Forbidden for an application it is not for."""
    claims = services.signer.app_claims(http.query_params[TOKEN_PARAMETER])
    key_id, apps = claims or ("", [])
    http.state.is_rehearsal = key_id.startswith(REHEARSAL_PREFIX)
    key_id = key_id.removeprefix(REHEARSAL_PREFIX)
    if claims is None or not await services.store.keys.is_in_use(key_id):
        raise Unauthorized(
            "This token has expired, or was not made here.", remedy="Ask for a new one at /rest/tokens/."
        )
    parts = http.path_params["endpoint"].strip("/").split("/")
    # The clients name an application by its second segment alone.
    if not {parts[1], "/".join(parts[:2]), "/".join(parts)} & set(apps):
        raise Forbidden(
            f"This token is not for {'/'.join(parts)[:200]}.", remedy=f"Ask for one with allowed_apps: [{parts[1]!r}]."
        )
    return key_id
