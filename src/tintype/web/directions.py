"""Where things are: the URLs of requests, and what a URL that leads nowhere was meant for.

Programs put URLs together by themselves, from an id and what they remember of fal's pages. A guess is no second way to
a request, but its answer names the right URL (it does not redirect: the asynchronous Python client would not follow).
Whether there is a request of that id is told to its owner alone.
"""

from __future__ import annotations

import re

from starlette.requests import Request as HttpRequest

from tintype import catalog
from tintype.errors import Forbidden, Unauthorized
from tintype.fal import PREFIXES
from tintype.store.records import Request
from tintype.web.auth import identify
from tintype.web.services import Services, queue_url_of

#: Where a path has a request's id: as a part that looks like one, else behind the word.
_IDS = (
    re.compile(r"/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?=/|$)"),
    re.compile(r"/requests?/([A-Za-z0-9-]{1,64})(?=/|$)"),
)
#: What may be asked about a request, by a word in the path; the first one that is there counts, else it is the result.
_ASKED = {
    "cancel": ("PUT", "/cancel"),
    "stream": ("GET", "/status/stream"),
    "logs": ("GET", "/status?logs=1"),
    "status": ("GET", "/status"),
}
_ANY_APP = "{owner}/{alias}"


def request_urls(queue_url: str, request: Request) -> dict[str, str]:
    """Tells where to ask for a request, in the two-segment form that fal's clients rebuild by themselves."""
    base = _base(queue_url, _app(request.endpoint_id), request.id)
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


async def directions(http: HttpRequest, endpoint_id: str = "") -> str:
    """Says what a URL that leads nowhere was probably meant for, and where that is; "" where nobody can know.

    Where it was to hold an endpoint's id, also what is merely near that.
    """
    path = http.scope["path"]
    request_id = next((found[1] for pattern in _IDS if (found := pattern.search(path))), None)
    if request_id is None:
        parts = path.strip("/").split("/")
        name = endpoint_id or "/".join(parts[parts[0] in PREFIXES :])
        near = catalog.nearest(name)
        if catalog.find(name) or not (near.is_meant or endpoint_id):
            return ""
        if not near.endpoints:
            return near.sentence
        part = "run" if "run" in parts else "queue"
        first = near.endpoints[0].id
        takes = "It" if len(near.endpoints) == 1 else first
        return f"{near.sentence} {takes} takes POST {http.state.origin}/{part}/{first}."
    words = path.split("/")
    method, suffix = next((_ASKED[word] for word in _ASKED if word in words), ("GET", ""))
    if http.method == "DELETE":
        method, suffix = _ASKED["cancel"]
    named = [app for app in map(_app, _names()) if f"/{app}/" in path]
    app = await _app_of_own(http, request_id) or next(iter(named), _ANY_APP)
    said = f"Did you mean {method} {_base(queue_url_of(http, http.state.origin), app, request_id)}{suffix}?"
    return said if app != _ANY_APP else f"{said} {_ANY_APP} are the first two parts of its endpoint's id."


def _names() -> list[str]:
    return [name for endpoint in catalog.ENDPOINTS for name in (endpoint.id, *endpoint.aliases)]


def _app(endpoint_id: str) -> str:
    return "/".join(endpoint_id.split("/")[:2])


def _base(queue_url: str, app: str, request_id: str) -> str:
    return f"{queue_url}/{app}/requests/{request_id}"


async def _app_of_own(http: HttpRequest, request_id: str) -> str:
    """Finds the first two parts of the endpoint of a request that the caller may see; "" otherwise."""
    services: Services = http.state.services
    try:
        owner = await services.store.keys.owner_of(await identify(http, services))
    except (Unauthorized, Forbidden):
        return ""
    request = await services.store.requests.get(request_id)
    if request is None or not await services.store.keys.owns(owner, request.key_id):
        return ""
    return _app(request.endpoint_id)
