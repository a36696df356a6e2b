"""Who asks: `Authorization: Key <id>:<secret>` or `Bearer …`, in any case, or a token: for uploads in its
place, for running one application in the URL."""

from __future__ import annotations

from tintype.errors import Unauthorized
from tintype.web import tokens
from tintype.web.services import Call

_REMEDY = 'Send the header "Authorization: Key <id>:<secret>" (FAL_KEY); `tintype keys create` makes a key.'


async def key_of(call: Call, *, upload_tokens: bool = False, app_tokens: bool = False) -> str:
    """The id of the caller's key; "" when keys are not asked for. Raises Unauthorized."""
    if call.settings.auth == "off":
        return ""
    scheme, _, credential = call.http.headers.get("authorization", "").strip().partition(" ")
    credential = credential.strip()
    if not credential and app_tokens and tokens.PARAMETER in call.http.query_params:
        return await tokens.key_behind(call, call.http.query_params[tokens.PARAMETER])
    if not credential:
        raise Unauthorized("This needs a key.", remedy=_REMEDY)
    if scheme.lower() not in ("key", "bearer"):
        raise Unauthorized("The Authorization header is neither Key nor Bearer.", remedy=_REMEDY)
    if upload_tokens:
        key_id = call.services.signer.token_key(credential)
        if key_id is not None:
            return key_id
    key = await call.queue.check_key(credential)
    if key is None:
        raise Unauthorized("This key is not known here, or was revoked.", remedy=_REMEDY)
    return key.id


async def is_visible(call: Call, owner: str) -> bool:
    """Whether the caller's key may see what the key `owner` made: keys of one name are one person's. What was made
    while no key was asked for is everybody's."""
    if owner in ("", call.key_id) or not call.key_id:
        return True
    return await call.queue.are_namesakes(owner, call.key_id)
