"""Where a request is really meant to go, when it was sent to a proxy: fal's proxy protocol.

A web page must not hold a key, so fal's JavaScript client can send everything to one URL of the page's own server and
name the real one in a header; path and query are those of that URL, method, body and the other headers the caller's.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from starlette.requests import Request as HttpRequest

from tintype.errors import BadRequest
from tintype.fal import TARGET_HEADER, is_fal_host
from tintype.settings import Settings
from tintype.web.access import host_name, is_own_host


def aimed(http: HttpRequest, settings: Settings) -> tuple[HttpRequest, str]:
    """The request as it would have come without a proxy, and the host name it is meant for. Raises BadRequest."""
    given = http.headers.get(TARGET_HEADER)
    if given is None:
        return http, host_name(http.headers.get("host", ""))
    try:
        url = urlsplit(given.strip())
        host = host_name(url.netloc)
    except ValueError:
        host = ""
    if not host or url.scheme not in ("http", "https") or not (is_fal_host(host) or is_own_host(settings, host)):
        raise BadRequest(
            f"{TARGET_HEADER} names no URL of fal's or of this server: {given[:200]!r}.",
            remedy="It is the URL that would be asked without a proxy, such as https://queue.fal.run/fal-ai/flux-lora.",
        )
    raw_path = (url.path or "/").encode("utf-8", "replace")
    meant = {
        "path": unquote(url.path or "/", errors="replace"),
        "raw_path": raw_path,
        "query_string": url.query.encode("utf-8", "replace"),
    }
    return HttpRequest({**http.scope, **meant}, http.receive), host
