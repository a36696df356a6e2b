"""Which URL means what: the only place that knows.

fal spreads its API over four hosts; here they are four prefixes of one origin. What comes without a prefix is told by
the name this server was called by (a name server may turn fal's own names here), else by its shape. Both clients drop
everything after the second segment of an endpoint id when they ask for a request, so requests are found by their id
alone, under any path. Nothing is ever redirected: the asynchronous Python client does not follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tintype.errors import MethodNotAllowed, NotFound
from tintype.fal import is_fal_host

_ENDPOINT = r"(?P<endpoint>[^/]+(?:/[^/]+)+)"
_REQUEST = r"(?:[^/]+/)+requests/(?P<id>[^/]+)"
_FILE = r"files/(?P<file_id>[^/]+)/(?P<name>[^/]+)"


@dataclass(frozen=True)
class Rule:
    """A path, and what each method on it does; `open` ones ask for no key."""

    pattern: re.Pattern[str]
    actions: Mapping[str, str]
    open: bool = False


@dataclass(frozen=True)
class Route:
    """What a request asks for. `action` names a handler."""

    action: str
    params: Mapping[str, str] = field(default_factory=dict)
    open: bool = False


def _rule(pattern: str, *, open: bool = False, **actions: str) -> Rule:
    return Rule(re.compile(pattern), actions, open)


QUEUE = (
    _rule(_REQUEST + r"/status/stream", GET="status_stream"),
    _rule(_REQUEST + r"/status", GET="status"),
    _rule(_REQUEST + r"/cancel", PUT="cancel", POST="cancel"),
    _rule(_REQUEST + r"(?:/response)?", GET="result"),
    _rule(_ENDPOINT, POST="submit"),
)
RUN = (
    _rule(_ENDPOINT + r"/stream", POST="run_stream", GET="run_stream"),
    _rule(_ENDPOINT + r"/realtime", open=True, POST="realtime", GET="realtime"),
    _rule(_ENDPOINT, POST="run", GET="run"),
)
REST = (
    _rule(r"storage/upload/initiate", POST="initiate_upload"),
    _rule(r"storage/upload/initiate-multipart", POST="initiate_parts"),
    _rule(r"storage/upload/" + _FILE, open=True, PUT="signed_upload"),
    _rule(r"storage/upload/parts/(?P<upload_id>[^/]+)/complete", open=True, POST="complete_parts"),
    _rule(
        r"storage/upload/parts/(?P<upload_id>[^/]+)/(?P<number>[0-9]{1,6})",
        open=True,
        PUT="upload_part",
        POST="part_url",
    ),
    _rule(r"storage/auth/token", POST="upload_token"),
    _rule(r"tokens(?:/.*)?", POST="issue_token"),
    _rule(r"\.well-known/jwks\.json", open=True, GET="webhook_keys"),
)
CDN = (
    _rule(r"files/upload", POST="direct_upload"),
    _rule(r"files/upload/multipart", POST="begin_parts"),
    _rule(_FILE + r"/multipart/(?P<upload_id>[^/]+)/complete", POST="complete_parts"),
    _rule(_FILE + r"/multipart/(?P<upload_id>[^/]+)/(?P<number>[0-9]{1,6})", PUT="upload_part"),
    _rule(_FILE, open=True, GET="download"),
)
MODELS = (
    _rule(r"v1/custom-models", GET="list_models"),
    _rule(r"v1/custom-models/(?P<id>[^/]+)", GET="show_model", PATCH="rename_model", DELETE="delete_model"),
    _rule(r"v1/custom-models/(?P<id>[^/]+)/archive", POST="archive_model"),
)
FILES = (
    _rule(r"v1/storage/files/acl", GET="show_acl", PUT="change_acl"),
    _rule(r"v1/storage/files/sign", POST="sign_file"),
)
WEBHOOKS = (
    _rule(r"v1/requests/(?P<id>[^/]+)/webhooks", GET="list_deliveries"),
    _rule(r"v1/requests/(?P<id>[^/]+)/webhooks/replay", POST="replay_webhook"),
)
PAGES = (
    _rule(r"", open=True, GET="front"),
    _rule(r"health", open=True, GET="health"),
    _rule(r"ready", open=True, GET="ready"),
    _rule(r"docs/errors", open=True, GET="error_page"),
)

FACES: Mapping[str, tuple[Rule, ...]] = {"queue": QUEUE, "run": RUN, "rest": REST, "cdn": CDN}
WORK = ("run", "run_stream")  # what makes work even by GET, so that HEAD is not a harmless look at it
# A bare POST to an endpoint is a submit, for which training is meant; one that ends in /stream can only be a run.
UNPREFIXED = (*PAGES, *MODELS, *WEBHOOKS, *FILES, *REST, *CDN, *QUEUE[:-1], *RUN[:2], QUEUE[-1])


def face_of(host: str) -> str | None:
    """The part of fal's API that a host name stands for: of fal's own names, and of `queue.` before ours."""
    if host.startswith("queue."):
        return "queue"
    if not is_fal_host(host):
        return None
    if host.endswith("fal.ai"):
        return "rest" if host.startswith("rest.") else None
    return "cdn" if host.endswith("fal.media") else "run"


def find(method: str, path: str, face: str | None = None) -> Route:
    """What `path` asks for, under the face that the host name stands for. Raises NotFound and MethodNotAllowed."""
    asked = "GET" if method == "HEAD" else method
    matches = list(_matches(path, face))
    for rule, params in matches:
        if asked in rule.actions and not (method == "HEAD" and rule.actions[asked] in WORK):
            return Route(rule.actions[asked], params, rule.open)
    if matches:
        taken = ", ".join(methods_of(path, face))
        raise MethodNotAllowed(f"{method} is not for this URL.", remedy=f"It takes {taken}.")
    raise NotFound("There is nothing at this URL.", remedy="The page at / lists what there is.")


def methods_of(path: str, face: str | None = None) -> list[str]:
    """The methods that a path takes."""
    return list(dict.fromkeys(method for rule, _ in _matches(path, face) for method in rule.actions))


def _matches(path: str, face: str | None) -> Iterator[tuple[Rule, dict[str, str]]]:
    plain = _plain(path)
    prefix, _, rest = plain.partition("/")
    if prefix in FACES:  # also under a host name of its own: the URLs in answers have prefixes
        rules, plain = FACES[prefix], rest
    else:
        rules = UNPREFIXED if face is None else (*FACES[face], *PAGES)
    for rule in rules:
        match = rule.pattern.fullmatch(plain)
        if match is not None:
            yield rule, match.groupdict()


def is_file_path(path: str) -> bool:
    """Whether a path names a stored file; those may be read by any page."""
    return re.fullmatch(_FILE, _plain(path).removeprefix("cdn/")) is not None


def _plain(path: str) -> str:
    """Without a slash at either end, nor two in a row: a base URL that ends in one is easily joined to a path."""
    return re.sub("/{2,}", "/", path).strip("/")
