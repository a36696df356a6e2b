"""What every page has: who looks at it, its template, the headers that keep foreign script out, and the static files.

What a template fills in is escaped, always; there is no inline script and no inline style, so that the policy can
forbid both.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import HTMLResponse, RedirectResponse, Response

from tintype import __version__, catalog
from tintype.errors import BadRequest, NotFound, TintypeError
from tintype.store.records import ApiKey, Request
from tintype.web import session
from tintype.web.directions import directions
from tintype.web.operation import answers
from tintype.web.services import Call
from tintype.web.studio.form import FormField

Page = Callable[[Call], Awaitable[Response]]
_WEB = Path(__file__).parents[1]
_STATIC = _WEB / "static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:",
        "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


def wants_page(call: Call) -> bool:
    """Tells whether a browser asks, rather than a program or an assistant."""
    return "text/html" in call.http.headers.get("accept", "")


def page(show: Page) -> Page:
    """Makes the handler of a page: who is not signed in is sent to do that, and an error is shown as a page."""

    @functools.wraps(show)
    async def answer(call: Call) -> Response:
        if not wants_page(call):
            meant = await directions(call.http)
            raise NotFound("There is nothing at this URL but a page for browsers.", remedy=meant or "See /llms.txt.")
        if not call.key_id and call.settings.auth != "off":
            asked = call.http.url
            return RedirectResponse(
                f"/sign-in?to={quote(asked.path + ('?' + asked.query if asked.query else ''))}", 303
            )
        try:
            return await show(call)
        except TintypeError as problem:
            return await _show_problem(call, problem)

    return answers("text/html")(answer)


async def show(call: Call, template: str, status: int = 200, **values: Any) -> Response:
    """Fills in a template for the person who asks."""
    person = await _person(call)
    text = (
        _templates()
        .get_template(template)
        .render(
            path=call.http.url.path,
            origin=call.origin,
            version=__version__,
            static=f"/static/{static_hash()}",
            person=person,
            is_admin=await call.store.keys.is_admin(call.key_id) if call.key_id else call.settings.auth == "off",
            is_open=call.settings.auth == "off",
            **values,
        )
    )
    return HTMLResponse(text, status, headers=HEADERS)


@answers("text/html", query={"to": str})
async def sign_in_page(call: Call) -> Response:
    """Answers `GET /sign-in`: where a link leads, and where a key can be pasted."""
    return await show(call, "sign_in.html", to=session.own_path(call.http.query_params.get("to", "/")), problem="")


@answers("text/html", status=(303, 401))
async def sign_in(call: Call) -> Response:
    """Answers `POST /sign-in`."""
    to, response = await session.sign_in(call)
    if response is not None:
        return response
    problem = (
        "This link was used already, or is over. `tintype open` on the server prints a new one; a key of yours works "
        "here, too."
    )
    return await show(call, "sign_in.html", 401, to=to, problem=problem)


sign_out = answers("text/html", status=(303,))(session.sign_out)


@answers(("text/css", "text/javascript"))
async def static_file(call: Call) -> Response:
    """Answers `GET /static/{hash}/{name}`; the hash is of all of them, so that a browser may keep each for good."""
    content = _static_files().get(call.params["name"])
    if content is None:
        raise NotFound("There is no such file.", remedy="Reload the page that names it.")
    suffix = Path(call.params["name"]).suffix
    is_current = call.params["hash"] == static_hash()
    kept = "public, max-age=31536000, immutable" if is_current else "no-store"
    return Response(content, media_type=_TYPES[suffix], headers={"Cache-Control": kept})


@functools.cache
def _static_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(_STATIC.iterdir()) if path.suffix in _TYPES}


@functools.cache
def static_hash() -> str:
    """Returns the hash that stands in the addresses of static files."""
    digest = hashlib.sha256()
    for name, content in _static_files().items():
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def time_in(call: Call, name: str) -> float | None:
    """Reads a time, in seconds, from the query. Raises BadRequest."""
    given = call.http.query_params.get(name)
    try:
        at = float(given) if given else None
    except ValueError:
        at = math.nan
    if at is not None and not math.isfinite(at):
        raise BadRequest(f"{name} has to be a time in seconds.", remedy="Follow the link at the end of the list.")
    return at


async def _person(call: Call) -> ApiKey | None:
    keys = await call.store.keys.list() if call.key_id else []
    return next((key for key in keys if key.id == call.key_id), None)


async def _show_problem(call: Call, problem: TintypeError) -> Response:
    failure = problem.failure()
    return await show(call, "problem.html", failure.status, message=failure.body["message"], code=failure.status)


@functools.cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # not before somebody asks

    made = Environment(
        loader=FileSystemLoader(_WEB / "html"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"ago": _ago, "moment": _moment, "size": _size, "seconds": _seconds, "as_json": _as_json}
    made.filters |= {"number": _number, "slider_step": _slider_step, "words_of": _words_of}
    made.globals["endpoint_title"] = _endpoint_title
    return made


def _words_of(request: Request) -> str:
    """Returns what a person knows a request by: its prompt, its trigger, its name, else the beginning of its id."""
    named = ("prompt", "trigger_phrase", "trigger_word", "name")
    return next((str(request.input[name]) for name in named if request.input.get(name)), request.id[:8])


def _number(value: float | None) -> str:
    """Writes a number for a field: without a point where it has no fraction; nothing for none."""
    return "" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


def _slider_step(field: FormField) -> str:
    """Returns what a slider moves by: about a hundredth of its way, in a round number."""
    way = (field.maximum or 0.0) - (field.minimum or 0.0)
    if field.step == "1":
        return "1"
    return f"{10 ** math.floor(math.log10(way / 50)):.12g}" if way > 0 else "any"


def _endpoint_title(endpoint_id: str) -> str:
    endpoint = catalog.find(endpoint_id)
    return endpoint.title if endpoint else endpoint_id


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _moment(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""


def _ago(at: float | None) -> str:
    """Writes how long ago a time is."""
    if not at:
        return "never"
    seconds = max(0.0, time.time() - at)
    return "just now" if seconds < 10 else f"{_seconds(seconds)} ago"


def _seconds(seconds: float | None) -> str:
    """Writes a duration in its largest unit."""
    if seconds is None:
        return "not measured"
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _size(size: float) -> str:
    """Writes a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return ""
