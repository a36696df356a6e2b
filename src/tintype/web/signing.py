"""Upload URLs and upload tokens that carry their own permission, so that the bytes may be sent without a key.

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
    """HMAC-SHA256 over named purposes: what was signed for one is worth nothing for another."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, purpose: str, parts: Sequence[str]) -> str:
        """64 hex digits."""
        text = json.dumps([purpose, *parts])
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def verify(self, purpose: str, parts: Sequence[str], signature: str) -> bool:
        """Constant-time."""
        return hmac.compare_digest(self.sign(purpose, parts).encode(), signature.encode("utf-8", "replace"))

    def token(self, key_id: str, expires_at: float) -> str:
        """A token for uploads that stands for a key until `expires_at` (unix seconds)."""
        claims = base64.urlsafe_b64encode(json.dumps([key_id, expires_at]).encode()).decode().rstrip("=")
        return f"{claims}.{self.sign('upload-token', [claims])}"

    def token_key(self, token: str) -> str | None:
        """The key id that a token stands for, unless it is not ours or has expired."""
        claims, _, signature = token.partition(".")
        if not self.verify("upload-token", [claims], signature):
            return None
        key_id, expires_at = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return str(key_id) if float(expires_at) > time.time() else None
