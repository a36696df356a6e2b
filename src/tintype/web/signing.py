"""URLs and tokens that carry their own permission, so that something may be sent without a key.

Both are signed with a secret of the installation and name when they end; nothing has to be remembered about them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence

UPLOAD_SECONDS = 3600.0  # how long a signed upload URL may be used
TOKEN_SECONDS = 3600.0


class Signer:
    """Signs with HMAC-SHA256 for named purposes: what was signed for one is worth nothing for another."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, purpose: str, parts: Sequence[str]) -> str:
        """Returns the signature, 64 hex digits."""
        text = json.dumps([purpose, *parts])
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def verify(self, purpose: str, parts: Sequence[str], signature: str) -> bool:
        """Tells whether a signature is right, in constant time."""
        return hmac.compare_digest(self.sign(purpose, parts).encode(), signature.encode("utf-8", "replace"))

    def token(self, key_id: str, expires_at: float) -> str:
        """Makes a token for uploads that stands for a key until `expires_at` (unix seconds)."""
        return self._seal("upload-token", [key_id, expires_at])

    def token_key(self, token: str) -> str | None:
        """Returns the key id that a token stands for, unless it is not ours or has expired."""
        claims = self._unseal("upload-token", token)
        return None if claims is None else str(claims[0])

    def app_token(self, key_id: str, apps: Sequence[str], expires_at: float) -> str:
        """Makes a token that stands for a key until `expires_at`, for the applications named."""
        return self._seal("app-token", [key_id, expires_at, *apps])

    def app_claims(self, token: str) -> tuple[str, list[str]] | None:
        """Returns key id and applications of such a token, unless it is not ours or has expired."""
        claims = self._unseal("app-token", token)
        return None if claims is None else (str(claims[0]), [str(app) for app in claims[2:]])

    def session(self, key_id: str, expires_at: float) -> str:
        """Makes what a browser's session holds: it stands for a key until `expires_at`."""
        return self._seal("session", [key_id, expires_at])

    def session_key(self, token: str) -> str | None:
        """Returns the key id that a session stands for, unless it is not ours or has expired."""
        claims = self._unseal("session", token)
        return None if claims is None else str(claims[0])

    def _seal(self, purpose: str, claims: list[str | float]) -> str:
        """Signs `claims`, of which the second is when they end."""
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"{text}.{self.sign(purpose, [text])}"

    def _unseal(self, purpose: str, token: str) -> list[str | float] | None:
        text, _, signature = token.partition(".")
        if not self.verify(purpose, [text], signature):
            return None
        claims: list[str | float] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return claims if float(claims[1]) > time.time() else None
