"""The ASGI application: the routes, what stands before them, and what works beside them as long as it serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from tintype.errors import TintypeError
from tintype.installation import make_data_dir
from tintype.settings import Settings
from tintype.store.store import Store
from tintype.web.housekeeping import keep_house
from tintype.web.licence_reports import report_licensed_use
from tintype.web.middleware import RequestMiddleware, refuse, refuse_route
from tintype.web.poll_cache import ReplayMiddleware
from tintype.web.routes import ROUTES
from tintype.web.services import Services
from tintype.web.webhook_sender import WebhookSender


class State(TypedDict):
    """Holds what is in every request's state from the start."""

    services: Services


def create_app(settings: Settings, store: Store | None = None) -> Starlette:
    """Builds the application, which opens (and closes) the queue of the settings unless it is given one."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        opened = store or await Store.open(
            settings.database_url, lease_seconds=settings.lease_seconds, limits=settings.limits
        )
        services = await Services.open(settings, opened)
        if settings.database_url.startswith("sqlite"):  # there is no other web process whose runs these could be
            await services.sync_runs.take_over()
        beside = (keep_house(services), WebhookSender(services).run(), report_licensed_use(services))
        duties = [asyncio.create_task(duty) for duty in beside]
        try:
            yield {"services": services}
        finally:
            for duty in duties:
                duty.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await duty
            await services.sync_runs.close()
            await services.strangers.close()
            await services.photos.close()
            if store is None:
                await opened.close()

    make_data_dir(settings)
    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(ReplayMiddleware), Middleware(RequestMiddleware, settings)],
        exception_handlers={TintypeError: refuse, HTTPException: refuse_route},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app
