"""What a webhook consists of: the bytes that are sent, and the headers that prove where they come from.

The signature is fal's: ED25519, in hex, over four lines joined by line feeds: request id, user id, unix seconds, and
the SHA-256 of the body in hex. The body is the same at every try; the time, and with it the signature, is the try's.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from tintype import __version__
from tintype.errors import Json
from tintype.files import render
from tintype.store.records import SigningKey
from tintype.web.responses import linked_body, to_json

USER_ID = "local-user"  # an installation is one account
SEEN_AS = f"tintype/{__version__}"


def body_of(message: Json, origin: str) -> bytes:
    """The message with URLs that its receiver can open: `origin` is where the sender of the request reached us."""
    payload = message.get("payload")
    if isinstance(payload, dict):
        message = {**message, "payload": linked_body(payload, origin)}
    return to_json(render(message, origin))


def headers_of(request_id: str, body: bytes, key: SigningKey, at: float, *, user_id: str = USER_ID) -> dict[str, str]:
    """All headers of a webhook sent at `at` (unix seconds)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 0.1 s that a start can do without

    timestamp = str(int(at))
    lines = (request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())
    signature = Ed25519PrivateKey.from_private_bytes(key.seed).sign("\n".join(lines).encode())
    return {
        "Content-Type": "application/json",
        "User-Agent": SEEN_AS,
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": timestamp,
        "X-Fal-Webhook-Signature": signature.hex(),
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
