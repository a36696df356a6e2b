"""Short-lived tokens: what a web page may hold instead of a key, good for running one application and nothing else.

fal's clients ask for them before they stream from a browser or speak realtime, and pass them in the URL, where no
header can be sent. A token ends with its time or with the key that it stands for.
"""

from __future__ import annotations

import time

from starlette.responses import Response

from tintype.errors import BadRequest, Forbidden, Json, Unauthorized
from tintype.web.answers import answer
from tintype.web.body import json_body
from tintype.web.services import Call

PARAMETER = "fal_jwt_token"
DEFAULT_SECONDS = 120
LONGEST_SECONDS = 24 * 3600
_MOST_APPS = 100


async def issue_token(call: Call) -> Response:
    """`POST /rest/tokens/`: a bare JSON string."""
    async with json_body(call) as body:
        given: Json = body.value if isinstance(body.value, dict) else {}
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
    return answer(call.services.signer.app_token(call.key_id, apps or [], time.time() + seconds))


async def key_behind(call: Call, token: str) -> str:
    """The id of the key that a token in the URL stands for. Raises Unauthorized, and Forbidden for another
    application than those it is for."""
    claims = call.services.signer.app_claims(token)
    if claims is None or not await call.queue.is_in_use(claims[0]):
        raise Unauthorized(
            "This token has expired, or was not made here.", remedy="Ask for a new one at /rest/tokens/."
        )
    key_id, apps = claims
    parts = call.params["endpoint"].strip("/").split("/")
    # The clients name an application by its second segment alone.
    if not {parts[1], "/".join(parts[:2]), "/".join(parts)} & set(apps):
        raise Forbidden(
            f"This token is not for {'/'.join(parts)[:200]}.", remedy=f"Ask for one with allowed_apps: [{parts[1]!r}]."
        )
    return key_id
