"""What happens to every request, whatever it asks for: checked, routed, authenticated, answered, never with a surprise.

Errors of ours become fal's bodies here and nowhere else; anything unforeseen becomes a 500 that names the request and
is logged with its trace. Every answer carries a request id, and a web page that may use us can read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tintype.errors import InternalError, TintypeError
from tintype.settings import Settings
from tintype.store.store import Queue
from tintype.web import (
    custom_models,
    downloads,
    file_access,
    pages,
    realtime,
    results,
    routing,
    run,
    status,
    storage,
    submit,
    tokens,
    webhooks,
)
from tintype.web.access import check_host, check_origin, cors_headers, preflight_headers
from tintype.web.answers import failed
from tintype.web.auth import key_of
from tintype.web.deliverer import Deliverer
from tintype.web.housekeeping import keep_house
from tintype.web.poll_cache import Poll, poll_of
from tintype.web.services import Call, Services
from tintype.web.target import aimed

Handler = Callable[[Call], Awaitable[Response]]

HANDLERS: Mapping[str, Handler] = {
    "submit": submit.submit,
    "status": status.status,
    "status_stream": status.status_stream,
    "result": results.result,
    "cancel": results.cancel,
    "run": run.run,
    "run_stream": run.run_stream,
    "realtime": realtime.refuse_over_http,
    "initiate_upload": storage.initiate_upload,
    "initiate_parts": storage.initiate_parts,
    "signed_upload": storage.signed_upload,
    "upload_part": storage.upload_part,
    "part_url": storage.part_url,
    "complete_parts": storage.complete_parts,
    "upload_token": storage.upload_token,
    "issue_token": tokens.issue_token,
    "direct_upload": storage.direct_upload,
    "begin_parts": storage.begin_parts,
    "download": downloads.download,
    "sign_file": file_access.sign_file,
    "show_acl": file_access.show_acl,
    "change_acl": file_access.change_acl,
    "list_models": custom_models.list_models,
    "show_model": custom_models.show_model,
    "rename_model": custom_models.rename_model,
    "archive_model": custom_models.archive_model,
    "delete_model": custom_models.delete_model,
    "webhook_keys": webhooks.webhook_keys,
    "list_deliveries": webhooks.list_deliveries,
    "replay_webhook": webhooks.replay_webhook,
    "front": pages.front,
    "health": pages.health,
    "ready": pages.ready,
    "error_page": pages.error_page,
}
_TAKES_TOKENS = ("direct_upload", "begin_parts", "upload_part", "complete_parts")
_PROBES = ("/health", "/ready")  # asked by machines that know an address rather than a name

log = structlog.get_logger("tintype.web")


def create_app(settings: Settings, queue: Queue | None = None) -> Starlette:
    """The ASGI application. Opens (and closes) the queue of the settings unless it is given one."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        opened = queue or await Queue.open(settings.database_url, lease_seconds=settings.lease_seconds)
        app.state.services = services = await Services.open(settings, opened)
        if settings.database_url.startswith("sqlite"):  # there is no other web process whose runs these could be
            await services.callers.take_over()
        duties = [asyncio.create_task(duty) for duty in (keep_house(services), Deliverer(services).run())]
        try:
            yield
        finally:
            for duty in duties:
                duty.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await duty
            await services.callers.close()
            if queue is None:
                await opened.close()

    settings.make_data_dir()
    app = Starlette(lifespan=lifespan)
    app.router.redirect_slashes = False
    app.router.default = _Face(settings)  # every path, also those that no route pattern of Starlette's would match
    return app


class _Face:
    """The one ASGI endpoint; routing.py tells the URLs apart."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await realtime.refuse_websocket(self._settings, scope, receive, send)
            return
        services: Services = scope["app"].state.services
        poll = poll_of(scope)
        if poll is not None and await _is_repeated(services, poll, send):
            return
        http = HttpRequest(scope, receive, send)
        call = Call(http, services, _origin(self._settings, http))
        open_to_all = False
        try:
            call.http, host = aimed(http, self._settings)
            call.face = routing.face_of(host)
            open_to_all = http.method in ("GET", "HEAD", "OPTIONS") and routing.is_file_path(call.path)
            response = await self._answer(call, open_to_all)
        except TintypeError as problem:
            response = failed(problem.failure(), call.origin)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception:  # whatever we did not foresee: the caller still gets JSON, and the log the whole story
            log.exception("unforeseen error", request_id=call.request_id, method=http.method, path=call.path)
            fault = InternalError("The server made a mistake.", remedy=f"Its log has more under {call.request_id}.")
            response = failed(fault.failure(), call.origin)
        response.headers["x-fal-request-id"] = call.request_id
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if response.status_code == 405:
            response.headers["Allow"] = ", ".join(routing.methods_of(call.path, call.face))
        for name, value in cors_headers(self._settings, http.headers, open_to_all=open_to_all).items():
            response.headers.setdefault(name, value)
        if poll is not None and call.repeatable is not None:
            services.repeated.put(poll, call.request_id, call.repeatable, response.raw_headers, time.monotonic())
        await response(scope, receive, send)

    async def _answer(self, call: Call, open_to_all: bool) -> Response:
        http, settings = call.http, self._settings
        if call.path.rstrip("/") not in _PROBES:
            check_host(settings, http.headers)
        if http.method == "OPTIONS":
            return Response(status_code=204, headers=preflight_headers(settings, http.headers, open_to_all=open_to_all))
        check_origin(settings, http.method, http.headers)
        route = routing.find(http.method, call.path, call.face)
        if route.action in routing.WORK:
            check_origin(settings, "POST", http.headers)  # whatever the method
        call.params = route.params
        if not route.open:
            call.key_id = await key_of(
                call, upload_tokens=route.action in _TAKES_TOKENS, app_tokens=route.action in routing.WORK
            )
        return await HANDLERS[route.action](call)


async def _is_repeated(services: Services, poll: Poll, send: Send) -> bool:
    """Whether a poll could be answered as it was a moment ago; then it has been."""
    told = services.repeated.get(poll, time.monotonic())
    if told is None or await services.queue.version(told.request_id) != told.version:
        return False
    for message in told.messages:
        await send(message)
    return True


def _origin(settings: Settings, http: HttpRequest) -> str:
    """Where the caller reaches us: what URLs in answers start with."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    return f"{http.scope['scheme']}://{http.headers.get('host') or f'{settings.host}:{settings.port}'}"
