"""Who a browser is: a signed cookie that stands for a key, and the pages' way in and out.

A browser sends a cookie whoever wrote the page that asks, and to every port of a host. So it counts only where the
request shows that it comes from a page of this very origin, host and port, or where it merely looks at something. A
session ends with its time, or with its key.
"""

from __future__ import annotations

import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from tintype.errors import BadRequest, Forbidden
from tintype.sign_in import take_code
from tintype.web.services import Call, Services

SESSION_SECONDS = 30 * 24 * 3600.0
_LONGEST_FORM = 4096  # bytes: a code or a key, and where to go


async def session_key(http: HttpRequest, services: Services, *, changes: bool) -> str:
    """Finds the id of the key that the session of a request stands for; "" without one. Raises Forbidden where it
    `changes` something and comes from no page of this server."""
    cookie = _cookies(http.state.headers).get(_cookie_name(http))
    key_id = services.signer.session_key(cookie.value) if cookie else None
    if not key_id or not await services.store.keys.is_in_use(key_id):
        return ""
    if changes and not _is_own_page(http):
        raise Forbidden(
            "A session counts for pages of this server only.",
            remedy='Programs send the header "Authorization: Key <id>:<secret>".',
        )
    return key_id


async def sign_in(call: Call) -> tuple[str, Response | None]:
    """Takes the form of the sign-in page, whose `code` is a link's or a key. Returns where the person wants to go, and
    the response that begins the session; None for a code that is not good."""
    given = parse_qs(await _form(call))
    code, to = given.get("code", [""])[0].strip(), own_path(given.get("to", ["/"])[0])
    if ":" in code:
        key = await call.store.keys.check(code)
        key_id = key.id if key else None
    else:
        key_id = await anyio.to_thread.run_sync(take_code, call.settings.data_dir, code)
    if key_id is None or not await call.store.keys.is_in_use(key_id):
        return to, None
    response = RedirectResponse(to, 303)
    token = call.services.signer.session(key_id, time.time() + SESSION_SECONDS)
    _set(response, call, token, SESSION_SECONDS)
    return to, response


async def sign_out(call: Call) -> Response:
    """Answers `POST /sign-out`: the browser forgets its session."""
    response = RedirectResponse("/sign-in", 303)
    _set(response, call, "", 0)
    return response


def own_path(given: str) -> str:
    """Returns a path of this server as it is, and / in the place of anything else."""
    is_plain = given.isprintable() and "\\" not in given
    return given if is_plain and given.startswith("/") and not given.startswith("//") else "/"


async def _form(call: Call) -> str:
    text = b""
    async for chunk in call.body(""):
        text += chunk
        if len(text) > _LONGEST_FORM:
            raise BadRequest("This form is larger than a key.", remedy="Send the code of a link, or a key.")
    return text.decode("utf-8", "replace")


def _set(response: Response, call: Call, value: str, seconds: float) -> None:
    response.set_cookie(
        _cookie_name(call.http),
        value,
        max_age=int(seconds),
        httponly=True,
        samesite="strict",
        secure=call.origin.startswith("https:"),
    )


def _cookies(headers: Headers) -> SimpleCookie:
    try:
        return SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return SimpleCookie()


def _cookie_name(http: HttpRequest) -> str:
    """Names the cookie by the port, too: browsers send it to every port of a host, and two servers may be here."""
    port = urlsplit(http.state.origin).port
    return f"tintype_session_{port}" if port else "tintype_session"


def _is_own_page(http: HttpRequest) -> bool:
    """Tells whether a request shows that it comes from a page of this origin."""
    headers: Headers = http.state.headers
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    own = http.state.origin
    return origin.lower() in (own.lower(), f"{urlsplit(origin).scheme}://{headers.get('host', '')}".lower())
