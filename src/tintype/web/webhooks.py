"""Webhooks over HTTP: the keys that check their signatures, how deliveries went, and sending one again by hand."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from starlette.responses import Response

from tintype.errors import Json
from tintype.store.records import Delivery, DeliveryState, SigningKey
from tintype.web.operation import answers
from tintype.web.responses import json_response
from tintype.web.services import Call
from tintype.web.status import find

_CACHED = "public, max-age=3600"  # receivers are promised no more than a day
_DELIVERY = {
    **{"id": int, "request_id": str, "url": str, "state": DeliveryState, "tries": int, "answer": str},
    **{"created_at": float, "due_at": float | None, "ended_at": float | None},
}


@answers({"keys": [dict.fromkeys(("kty", "crv", "x", "kid", "use", "alg"), str)]})
async def webhook_keys(call: Call) -> Response:
    """Answers `GET /.well-known/jwks.json`."""
    return json_response(key_set(await call.store.webhooks.signing_keys()), headers={"Cache-Control": _CACHED})


@answers({"items": [_DELIVERY]})
async def list_deliveries(call: Call) -> Response:
    """Answers `GET /v1/requests/{id}/webhooks`, newest first."""
    request = await find(call)
    return json_response({"items": [_described(delivery) for delivery in await call.store.webhooks.list(request.id)]})


@answers(_DELIVERY, status=(202,))
async def replay_webhook(call: Call) -> Response:
    """Answers `POST /v1/requests/{id}/webhooks/replay`: the same content once more."""
    request = await find(call)
    return json_response(_described(await call.store.webhooks.replay(request.id)), 202)


def _described(delivery: Delivery) -> Json:
    return {
        "id": delivery.id,
        "request_id": delivery.request_id,
        "url": delivery.url,
        "state": delivery.state,
        "tries": delivery.tries,
        "answer": delivery.answer,
        "created_at": delivery.created_at,
        "due_at": delivery.due_at if delivery.ended_at is None else None,
        "ended_at": delivery.ended_at,
    }


def key_set(keys: Sequence[SigningKey]) -> Json:
    """The public halves, as a JSON Web Key Set (RFC 8037)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    published = []
    for key in keys:
        public = Ed25519PrivateKey.from_private_bytes(key.seed).public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(public).decode().rstrip("=")
        published.append({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.id, "use": "sig", "alg": "EdDSA"})
    return {"keys": published}
