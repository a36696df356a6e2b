"""What is fal's on the wire and known in several rooms: its host names, the parts of its API, and three headers.

The proxy turns these names, the server answers to them, and webhooks never name them as their origin.
"""

from __future__ import annotations

from collections.abc import Mapping

DOMAINS = ("fal.run", "falrun.com", "fal.ai", "fal.media")
QUEUE_ORIGIN = "https://queue.fal.run"
TARGET_HEADER = "x-fal-target-url"  # fal's proxy protocol: the URL that a request is really meant for
REHEARSAL_HEADER = "x-tintype-rehearsal"  # ours: 1 asks for the miniatures, and marks what they made
REHEARSAL_PREFIX = "rehearsal-"  # of a key: asks for the same, where a program's headers cannot be changed
FAL_PROXY_HEADER = "x-tintype-fal-proxy"  # ours: set on requests that were meant for fal and came by the fal proxy

#: fal spreads its API over four hosts; on a server of ours they are four prefixes of one origin. The platform API has a
#: fifth, and needs no prefix: all its paths begin with /v1.
PREFIXES = ("queue", "run", "rest", "cdn")
#: The part of the API that a host name stands for, as patterns of Starlette's `Host`; the first one that fits counts.
#: `queue.` means the same before a name of ours. `labels` are any number of labels, each with its dot.
HOST_PATTERNS: Mapping[str, str] = {
    "queue.{rest:path}": "queue",
    "{labels:labels}fal.run": "run",
    "{labels:labels}falrun.com": "run",
    "rest.{labels:labels}fal.ai": "rest",
    "api.{labels:labels}fal.ai": "api",
    "docs.{labels:labels}fal.ai": "docs",
    "{labels:labels}fal.media": "cdn",
}


def asks_for_rehearsal(authorization: str) -> bool:
    """Tells whether a key, of whoever it is, was given with the prefix of rehearsals."""
    return authorization.partition(" ")[2].strip().lower().startswith(REHEARSAL_PREFIX)


def is_fal_host(host: str) -> bool:
    """Tells whether a host name (without port) is one of fal's own, however it is written."""
    plain = host.lower().rstrip(".")
    return any(plain == domain or plain.endswith(f".{domain}") for domain in DOMAINS)
