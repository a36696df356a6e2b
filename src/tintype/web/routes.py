"""Which URL means what: the only place that knows, and where a handler says what it asks of its caller.

fal spreads its API over four hosts; here they are four prefixes of one origin. What comes without a prefix is told by
the name this server was called by (a name server may turn fal's own names here), else by its shape. Both clients drop
everything after the second segment of an endpoint id when they ask for a request, so requests are found by their id
alone, under any path. Nothing is ever redirected: the asynchronous Python client does not follow.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute

from tintype.fal import HOST_PATTERNS
from tintype.web import (
    auth,
    custom_models,
    dataset_captions,
    dataset_photos,
    dataset_report,
    datasets,
    downloads,
    forget,
    llms,
    manual,
    mcp,
    openapi,
    pages,
    platform,
    platform_usage,
    run,
    status,
    submit,
    uploads,
    webhooks,
)
from tintype.web.access import check_origin
from tintype.web.auth import Credential
from tintype.web.operation import answers
from tintype.web.services import Call, Services
from tintype.web.studio import (
    belongings,
    datasets as studio_datasets,
    doctor,
    models as studio_models,
    page as studio_page,
    requests as studio_requests,
)

Handler = Callable[[Call], Awaitable[Response]]


class _Pattern(Convertor[str]):
    """Takes text of one form out of a path or host name, as it is."""

    def __init__(self, regex: str) -> None:
        self.regex = regex  # type: ignore[misc]

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


for _name, _regex in {
    "app": r"[^/]+(?:/[^/]+)*",
    "endpoint": r"(?!v1/)[^/]+(?:/[^/]+)+",  # nothing below /v1 is one
    "model": r"(?!.*/requests/)[^/]+(?:/[^/]+)*",  # a page's, of which requests are none; a bad one too
    "part": r"[0-9]{1,6}",
    "labels": r"(?:[^.]+\.)*",
}.items():
    register_url_convertor(_name, _Pattern(_regex))


class Resource(Route):
    """Maps the methods of a path to their handlers, which see only callers that hold what the path asks for."""

    def __init__(self, path: str, asks: Credential = Credential.KEY, **handlers: Handler) -> None:
        super().__init__(path, self._serve, methods=list(handlers))
        self.asks = asks
        self.handlers = handlers
        self.is_open = asks in (Credential.NONE, Credential.SESSION)
        # A run makes work even by GET, so that HEAD is no harmless look at it, nor a link on a foreign page one.
        self._makes_work = asks is Credential.KEY_OR_APP_TOKEN
        if self._makes_work and self.methods is not None:
            self.methods.discard("HEAD")

    async def _serve(self, http: HttpRequest) -> Response:
        services: Services = http.state.services
        if self._makes_work:
            check_origin(services.settings, "POST", http.state.headers)
        changes = self._makes_work or http.method not in ("GET", "HEAD")
        key_id = await auth.identify(http, services, self.asks, changes=changes)
        owner = await services.store.keys.owner_of(key_id)
        handler = self.handlers["GET" if http.method == "HEAD" else http.method]
        return await handler(Call(http, services, key_id, owner, origin=http.state.origin))


@answers(dict[str, Any])
async def describe_server(call: Call) -> Response:
    """Answers `GET /openapi.json`: the whole server in one document."""
    return openapi.server_document(call, {"": (*PAGES, *PLATFORM, *OURS), "/rest": REST, "/cdn": CDN})


_OPEN, _PAGE, _UPLOADS, _RUNS = (
    Credential.NONE, Credential.SESSION, Credential.KEY_OR_UPLOAD_TOKEN, Credential.KEY_OR_APP_TOKEN
)  # fmt: skip
_REQUEST = "/{app:app}/requests/{id}"
_FILE = "/files/{file_id}/{name}"
_PARTS = "/storage/upload/parts/{upload_id}"
_DATASET = "/v1/datasets/{id}"
_PHOTO = _DATASET + "/photos/{photo_id}"

QUEUE = (
    Resource(f"{_REQUEST}/status/stream", GET=status.status_stream),
    Resource(f"{_REQUEST}/status", GET=status.status),
    Resource(f"{_REQUEST}/cancel", PUT=status.cancel, POST=status.cancel),
    Resource(f"{_REQUEST}/stop", PUT=status.stop, POST=status.stop),
    Resource(f"{_REQUEST}/response", GET=status.result),
    Resource(_REQUEST, GET=status.result),
    Resource("/{endpoint:endpoint}", POST=submit.submit),
)
RUN = (
    Resource("/{endpoint:endpoint}/stream", _RUNS, POST=run.run_stream, GET=run.run_stream),
    Resource("/{endpoint:endpoint}/realtime", _OPEN, POST=run.refuse_over_http, GET=run.refuse_over_http),
    Resource("/{endpoint:endpoint}", _RUNS, POST=run.run, GET=run.run),
)
REST = (
    Resource("/storage/upload/initiate", POST=uploads.initiate_upload),
    Resource("/storage/upload/initiate-multipart", POST=uploads.initiate_parts),
    Resource(f"/storage/upload{_FILE}", _OPEN, PUT=uploads.signed_upload),
    Resource(f"{_PARTS}/complete", _OPEN, POST=uploads.complete_parts),
    Resource(f"{_PARTS}/{{number:part}}", _OPEN, PUT=uploads.upload_part, POST=uploads.part_url),
    Resource("/storage/auth/token", POST=uploads.upload_token),
    Resource("/tokens", POST=auth.issue_token),
    Resource("/tokens/{rest:path}", POST=auth.issue_token),
    Resource("/.well-known/jwks.json", _OPEN, GET=webhooks.webhook_keys),
)
CDN = (
    Resource("/files/upload", _UPLOADS, POST=uploads.direct_upload),
    Resource("/files/upload/multipart", _UPLOADS, POST=uploads.begin_parts),
    Resource(f"{_FILE}/multipart/{{upload_id}}/complete", _UPLOADS, POST=uploads.complete_parts),
    Resource(f"{_FILE}/multipart/{{upload_id}}/{{number:part}}", _UPLOADS, PUT=uploads.upload_part),
    Resource(_FILE, _OPEN, GET=downloads.download),
)
OURS = (
    Resource("/mcp", POST=mcp.answer_message),
    Resource("/v1/custom-models", GET=custom_models.list_models),
    Resource(
        "/v1/custom-models/{id}",
        GET=custom_models.show_model,
        PATCH=custom_models.rename_model,
        DELETE=custom_models.delete_model,
    ),
    Resource("/v1/custom-models/{id}/archive", POST=custom_models.archive_model),
    Resource("/v1/datasets", GET=datasets.list_datasets, POST=datasets.create_dataset),
    Resource(_DATASET, GET=datasets.show_dataset, PATCH=datasets.rename_dataset, DELETE=datasets.delete_dataset),
    Resource(f"{_DATASET}/archive", GET=datasets.download_dataset),
    Resource(f"{_DATASET}/report", GET=dataset_report.report),
    Resource(f"{_DATASET}/captions", PATCH=dataset_captions.set_captions),
    Resource(f"{_DATASET}/captions/edit", POST=dataset_captions.edit_captions),
    Resource(f"{_DATASET}/photos", GET=dataset_photos.list_photos, POST=dataset_photos.add_photos),
    Resource(
        _PHOTO, GET=dataset_photos.show_photo, PATCH=dataset_photos.change_photo, DELETE=dataset_photos.delete_photo
    ),
    Resource(f"{_PHOTO}/thumbnail", GET=dataset_photos.thumbnail),
    Resource(f"{_PHOTO}/preview", GET=dataset_photos.preview),
    Resource("/v1/requests/{id}/retry", POST=status.retry),
    Resource("/v1/requests/{id}/webhooks", GET=webhooks.list_deliveries),
    Resource("/v1/requests/{id}/webhooks/replay", POST=webhooks.replay_webhook),
)
PLATFORM = (
    Resource("/v1/models", _OPEN, GET=platform.list_models),
    Resource("/v1/models/pricing", GET=platform.list_prices),
    Resource("/v1/models/pricing/estimate", POST=platform.estimate),
    Resource("/v1/models/usage", GET=platform_usage.usage),
    Resource("/v1/models/analytics", GET=platform_usage.analytics),
    Resource("/v1/models/requests/by-endpoint", GET=platform_usage.list_requests),
    Resource("/v1/models/requests/{id}/payloads", DELETE=forget.delete_payloads),
    Resource("/v1/keys", Credential.ADMIN_KEY, GET=platform.list_keys, POST=platform.create_key),
    Resource("/v1/keys/{id}", Credential.ADMIN_KEY, DELETE=platform.delete_key),
    Resource("/v1/meta", _OPEN, GET=platform.meta),
    Resource("/v1/account/billing", GET=platform.billing),
    Resource("/v1/storage/settings", GET=platform.show_storage, PUT=platform.change_storage),
    Resource("/v1/storage/files/acl", GET=downloads.show_acl, PUT=downloads.change_acl),
    Resource("/v1/storage/files/sign", POST=downloads.sign_file),
)
PAGES = (
    Resource("/", _PAGE, GET=studio_models.front),
    Resource("/health", _OPEN, GET=pages.health),
    Resource("/ready", _OPEN, GET=pages.ready),
    Resource("/docs/errors", _OPEN, GET=manual.error_page),
    Resource("/docs/errors.md", _OPEN, GET=manual.errors_text),
    Resource("/openapi.json", _OPEN, GET=describe_server),
    *(Resource(path, _OPEN, GET=manual.site_text) for path in ("/llms.txt", "/models.md")),
    *(Resource(f"/models/{{endpoint:model}}{end}", _OPEN, GET=manual.model_text) for end in ("/llms.txt", ".md")),
    Resource("/models", _PAGE, GET=studio_models.list_models),
    Resource("/models/{endpoint:model}/api", _PAGE, GET=studio_models.api),
    Resource("/models/{endpoint:model}/playground", _PAGE, GET=studio_models.playground),
    Resource("/models/{endpoint:model}", _PAGE, GET=studio_models.playground),
    Resource("/docs/mcp", _OPEN, POST=mcp.answer_reader),
    Resource("/api/models", _OPEN, GET=llms.gallery),
    Resource("/api/openapi/queue/openapi.json", _OPEN, GET=openapi.endpoint_document),
)
STUDIO = (
    Resource("/sign-in", _OPEN, GET=studio_page.sign_in_page, POST=studio_page.sign_in),
    Resource("/sign-out", _OPEN, POST=studio_page.sign_out),
    Resource("/requests", _PAGE, GET=studio_requests.list_requests),
    Resource("/requests/{id}", _PAGE, GET=studio_requests.show_request),
    Resource("/datasets", _PAGE, GET=studio_datasets.list_datasets),
    Resource("/datasets/{id}", _PAGE, GET=studio_datasets.show_dataset),
    Resource("/loras", _PAGE, GET=belongings.list_loras),
    Resource("/custom-models", _PAGE, GET=belongings.list_custom_models),
    Resource("/files", _PAGE, GET=belongings.list_files),
    Resource("/keys", _PAGE, GET=belongings.list_keys),
    Resource("/usage", _PAGE, GET=belongings.show_usage),
    Resource("/doctor", _PAGE, GET=doctor.show_doctor),
    Resource("/static/{hash}/{name}", _OPEN, GET=studio_page.static_file),
)
DOCS = (Resource("/mcp", _OPEN, POST=mcp.answer_reader),)

_PARTS_OF_FAL: Mapping[str, Sequence[BaseRoute]] = {"queue": QUEUE, "run": RUN, "rest": REST, "cdn": CDN}
_HOSTS = {**_PARTS_OF_FAL, "api": (*PLATFORM, *OURS), "docs": DOCS}
# A bare POST to an endpoint is a submit, for which training is meant; one that ends in /stream can only be a run.
UNPREFIXED = (*PAGES, *STUDIO, *PLATFORM, *OURS, *REST, *CDN, *QUEUE[:-1], *RUN[:2], QUEUE[-1])


def _router(*routes: BaseRoute) -> Router:
    return Router(routes, redirect_slashes=False)


ROUTES: Sequence[BaseRoute] = (
    WebSocketRoute("/{path:path}", run.refuse_websocket),
    # Prefixes count under any host name: the URLs in responses have them.
    *(Mount(f"/{prefix}", _router(*routes)) for prefix, routes in _PARTS_OF_FAL.items()),
    *(Host(pattern, _router(*_HOSTS[part], *PAGES)) for pattern, part in HOST_PATTERNS.items()),
    *UNPREFIXED,
)

_IS_FILE = re.compile(r"(?:/cdn)?/files/[^/]+/[^/]+")


def is_file(path: str) -> bool:
    """Tells whether a path names a stored file; those may be read by any web page."""
    return _IS_FILE.fullmatch(path) is not None
