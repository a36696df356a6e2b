"""What happens to every request before a route sees it, and to every response.

A request is brought into the form it would have come in without a proxy and without a slash too many, and refused if
it comes by a foreign name or from a foreign page. A response names its request, and may be read by the pages that may
ask. Whatever nobody foresaw becomes a 500 that names the request and is logged with its trace.
"""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from tintype import catalog
from tintype.errors import BadRequest, Forbidden, InternalError, MethodNotAllowed, NotFound, TintypeError
from tintype.fal import TARGET_HEADER, is_fal_host
from tintype.files.disk import is_full, storage_full
from tintype.settings import Settings
from tintype.web.access import check_host, check_origin, cors_headers, host_name, is_own_host, preflight_headers
from tintype.web.directions import directions
from tintype.web.responses import failure_response, is_platform, platform_failure_response
from tintype.web.routes import is_file

_ADDED_BY_PROXIES = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip")
_PROBES = ("/health", "/ready")  # asked by machines that know an address rather than a name

log = structlog.get_logger("tintype.web")


class RequestMiddleware:
    """Puts into a request's state what handlers know it by: `request_id`, `origin`, and its `headers` as sent.

    A handler that finds the queue's request replaces `request_id` by that one's.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket" and not self._is_called_by_name(Headers(scope=scope)):
            await WebSocketClose()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        state = scope["state"]
        state |= {"request_id": str(uuid.uuid4()), "origin": self._origin(scope, headers), "headers": headers}
        for_all = has_begun = False

        async def send_named(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                named = MutableHeaders(scope=message)
                named["x-fal-request-id"] = state["request_id"]
                named.setdefault("X-Content-Type-Options", "nosniff")
                for name, value in cors_headers(self._settings, headers, open_to_all=for_all).items():
                    named.setdefault(name, value)
            await send(message)

        try:
            if any(name in headers for name in _ADDED_BY_PROXIES):
                state["services"].note_proxy()
            meant = self._as_meant(scope, headers)
            for_all = scope["method"] in ("GET", "HEAD", "OPTIONS") and is_file(meant["path"])
            if meant["path"] not in _PROBES:
                check_host(self._settings, headers)
            if scope["method"] == "OPTIONS":
                allowed = preflight_headers(self._settings, headers, open_to_all=for_all)
                await Response(status_code=204, headers=allowed)(scope, receive, send_named)
                return
            check_origin(self._settings, scope["method"], headers)
            await self._app(meant, receive, send_named)
        except ClientDisconnect:
            return  # nobody is left to answer
        except TintypeError as problem:
            await _refusal(scope, problem)(scope, receive, send_named)
        except Exception as problem:
            if has_begun:
                raise
            if is_full(problem):
                await _refusal(scope, storage_full())(scope, receive, send_named)
                return
            log.exception(
                "unforeseen error", request_id=state["request_id"], method=scope["method"], path=scope["path"]
            )
            remedy = f"Its log has more under {state['request_id']}."
            fault = InternalError("The server made a mistake.", remedy=remedy)
            await _refusal(scope, fault)(scope, receive, send_named)

    def _origin(self, scope: Scope, headers: Headers) -> str:
        """Tells where the caller reaches us: what URLs in responses start with."""
        if self._settings.public_url:
            return self._settings.public_url.rstrip("/")
        return f"{scope['scheme']}://{headers.get('host') or f'{self._settings.host}:{self._settings.port}'}"

    def _as_meant(self, scope: Scope, headers: Headers) -> Scope:
        """Makes the request as it would have come to the host that it is meant for. Raises BadRequest.

        A web page must not hold a key, so fal's JavaScript client can send everything to one URL of the page's own
        server and name the real one in a header; path and query are those of that URL, the rest is the caller's.
        """
        target = headers.get(TARGET_HEADER)
        host, meant = host_name(headers.get("host", "")), dict[str, Any](path=scope["path"])
        if target is not None:
            host, meant = self._target(target)
        meant["path"] = plain_path(meant["path"])
        others = [header for header in scope["headers"] if header[0] != b"host"]
        return {**scope, **meant, "headers": [*others, (b"host", host.encode("latin-1", "replace"))]}

    def _target(self, target: str) -> tuple[str, dict[str, Any]]:
        try:
            url = urlsplit(target.strip())
            host = host_name(url.netloc)
        except ValueError:
            host = ""
        is_ours = is_fal_host(host) or is_own_host(self._settings, host)
        if not host or url.scheme not in ("http", "https") or not is_ours:
            raise BadRequest(
                f"{TARGET_HEADER} names no URL of fal's or of this server: {target[:200]!r}.",
                remedy="It is the URL that would be asked without a proxy, such as "
                "https://queue.fal.run/fal-ai/flux-lora.",
            )
        return host, {
            "path": unquote(url.path or "/", errors="replace"),
            "raw_path": (url.path or "/").encode("utf-8", "replace"),
            "query_string": url.query.encode("utf-8", "replace"),
        }

    def _is_called_by_name(self, headers: Headers) -> bool:
        try:
            check_host(self._settings, headers)
        except Forbidden:
            return False
        return True


def plain_path(path: str) -> str:
    """Takes off slashes at the end and out of the middle: a base URL that ends in one is easily joined to a path."""
    path = path.strip("/")
    return "/" + (re.sub("/{2,}", "/", path) if "//" in path else path)


def _refusal(scope: Scope, problem: TintypeError) -> Response:
    """Makes the response to an error, in the one of fal's two shapes that its route has."""
    failure, state = problem.failure(), scope["state"]
    if is_platform(plain_path(scope["path"])):
        return platform_failure_response(failure, state["origin"], state["request_id"])
    return failure_response(failure, state["origin"])


async def refuse(http: HttpRequest, problem: Exception) -> Response:
    """Answers what a handler raised."""
    assert isinstance(problem, TintypeError)
    return _refusal(http.scope, problem)


async def refuse_route(http: HttpRequest, problem: Exception) -> Response:
    """Answers what no route takes: 404 for an unknown path, 405 for a method that is not for it."""
    assert isinstance(problem, HTTPException)
    taken = ", ".join(sorted((problem.headers or {}).get("Allow", "POST").split(", ")))
    meant = await directions(http)
    named = http.path_params.get("endpoint")
    if problem.status_code == 405 and named is not None and catalog.find(named) is None:
        return await refuse(http, catalog.not_found(named, meant))
    # Any path might be an endpoint's, so that POST alone says nothing about this one.
    if problem.status_code != 405 or (meant and taken == "POST"):
        remedy = meant or "The page at / lists what there is."
        return await refuse(http, NotFound("There is nothing at this URL.", remedy=remedy))
    message, remedy = f"{http.method} is not for this URL.", f"It takes {taken}. {meant}"
    return await refuse(http, MethodNotAllowed(message, remedy=remedy, headers={"Allow": taken}))
