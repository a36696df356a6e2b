"""Who may talk to this server at all: the Host it is called by and the web page that calls.

A page on the internet can make a visitor's browser send requests to 127.0.0.1, and can rename itself to 127.0.0.1 (DNS
rebinding). The first is stopped by the Origin check on anything that changes state, the second by the Host check.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from tintype.errors import Forbidden
from tintype.fal import is_fal_host
from tintype.files.addresses import literal
from tintype.settings import Settings

_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_WILDCARDS = ("0.0.0.0", "::", "")  # settings.host that listens on every address
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_ALLOWED_HEADERS = ", ".join(
    (
        "authorization", "content-type", "accept", "range", "if-range", "idempotency-key", "x-idempotency-key",
        "x-fal-target-url", "x-tintype-rehearsal", "x-fal-queue-priority", "x-fal-request-timeout", "x-fal-runner-hint",
        "x-fal-object-lifecycle", "x-fal-object-lifecycle-preference", "x-fal-store-io", "x-fal-no-retry",
        "x-fal-retry-config", "x-fal-tags", "x-fal-file-name", "x-app-fal-disable-fallback", "mcp-protocol-version",
    )
)  # fmt: skip
_EXPOSED_HEADERS = ", ".join(
    (
        "x-fal-request-id", "x-fal-request-timeout-type", "x-fal-error-type", "x-fal-billable-units", "x-fal-retryable",
        "x-fal-needs-retry", "x-tintype-rehearsal", "x-fal-served-from", "etag", "content-range", "accept-ranges",
        "content-disposition", "content-length",
    )
)  # fmt: skip


def check_host(settings: Settings, headers: Headers) -> None:
    """Raises Forbidden for a Host that is none of this server's names, nor one of fal's.

    A name server may have turned fal's here: rebinding those is in nobody's power but fal's.
    """
    given = ", ".join(headers.getlist("host"))
    host = host_name(given)
    # It is written into the URLs of answers, so it has to be a whole one, not merely begin like one.
    known = is_own_host(settings, host.removeprefix("queue.")) or is_fal_host(host)
    if not _HOST.fullmatch(given.strip()) or not known:
        raise Forbidden(
            f"This server does not answer to the name {(host or given)[:100]!r}.",
            remedy="Start it with TINTYPE_ALLOWED_HOSTS or TINTYPE_PUBLIC_URL naming it.",
        )


def is_own_host(settings: Settings, host: str) -> bool:
    """Tells whether a host name (without port) is one of this server's."""
    if _is_loopback(host):
        return True
    own = [settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)]
    if settings.public_url:
        own.append(host_name(urlsplit(settings.public_url).netloc))
    # Rebinding works by a name; an address typed into a browser is no danger where every address is listened on.
    if settings.host in _WILDCARDS and literal(host) is not None:
        return True
    return bool(host) and _matches(host, own)


def check_origin(settings: Settings, method: str, headers: Headers) -> None:
    """Raises Forbidden for a change of state asked for by a web page that is not allowed to."""
    origin = headers.get("origin")
    if origin is None and method in _CHANGING and headers.get("sec-fetch-site") == "cross-site":
        origin = "another site"  # a picture or a link, which browsers fetch without naming the page
    if origin is not None and method in _CHANGING and not is_allowed_origin(settings, origin, headers):
        raise Forbidden(
            f"Web pages of {origin[:100]} may not use this server.",
            remedy="Start it with TINTYPE_ALLOWED_ORIGINS naming that origin.",
        )


def is_allowed_origin(settings: Settings, origin: str, headers: Headers) -> bool:
    """Tells whether a web page is of this machine, of this server, or of those in the settings."""
    try:
        parts = urlsplit(origin)
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    if parts.scheme in ("http", "https") and _is_loopback(host):
        return True
    own = {settings.public_url.rstrip("/").lower()} if settings.public_url else set()
    if origin.lower() in own or (parts.netloc and parts.netloc.lower() == headers.get("host", "").lower()):
        return True
    return any(origin.lower() == allowed.rstrip("/").lower() or allowed == "*" for allowed in settings.allowed_origins)


def cors_headers(settings: Settings, headers: Headers, *, open_to_all: bool) -> dict[str, str]:
    """Makes the headers that let a page read the response; none for a page that may not."""
    if open_to_all:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED_HEADERS}
    origin, varies = headers.get("origin"), {"Vary": "Origin"}
    if origin is None or not is_allowed_origin(settings, origin, headers):
        return varies
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED_HEADERS, **varies}


def preflight_headers(settings: Settings, headers: Headers, *, open_to_all: bool) -> dict[str, str]:
    """Makes the headers for a browser that asks before it sends. Raises Forbidden for a page that may not."""
    if not open_to_all:
        check_origin(settings, "POST", headers)
    answer = {
        **cors_headers(settings, headers, open_to_all=open_to_all),
        "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS" if open_to_all else _METHODS,
        "Access-Control-Allow-Headers": ", ".join((_ALLOWED_HEADERS, *_newer(headers))),
        "Access-Control-Max-Age": "600",
    }
    if headers.get("access-control-request-private-network") == "true":
        answer["Access-Control-Allow-Private-Network"] = "true"
    return answer


def _newer(headers: Headers) -> list[str]:
    """Headers of fal's that a page wants to send and nobody knows here: its client may be newer than this server."""
    asked = re.findall(r"x-(?:app-)?fal-[a-z0-9-]{1,60}", headers.get("access-control-request-headers", "").lower())
    return sorted({name for name in asked if name not in _ALLOWED_HEADERS.split(", ")})


def host_name(netloc: str) -> str:
    """Takes the port off a `Host`; in lower case, IPv6 without brackets."""
    netloc = netloc.rsplit("@", 1)[-1].strip().lower()
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0].rstrip(".")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _matches(host: str, names: Iterable[str]) -> bool:
    return any(name in (host, "*") or (name.startswith("*.") and host.endswith(name[1:])) for name in names)
