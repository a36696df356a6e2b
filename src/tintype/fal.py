"""What is fal's on the wire and known in several rooms: its host names, and two headers.

The proxy turns these names, the server answers to them, and webhooks never name them as their origin.
"""

from __future__ import annotations

DOMAINS = ("fal.run", "falrun.com", "fal.ai", "fal.media")
QUEUE_ORIGIN = "https://queue.fal.run"
TARGET_HEADER = "x-fal-target-url"  # fal's proxy protocol: the URL that a request is really meant for
FAL_PROXY_HEADER = "x-tintype-fal-proxy"  # ours: set on requests that were meant for fal and came by the fal proxy


def is_fal_host(host: str) -> bool:
    """Tells whether a host name (without port) is one of fal's own, however it is written."""
    plain = host.lower().rstrip(".")
    return any(plain == domain or plain.endswith(f".{domain}") for domain in DOMAINS)
