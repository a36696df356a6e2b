"""What a person or a probe finds here: the front, health, readiness, and what each error type means."""

from __future__ import annotations

import time
from pathlib import Path

from starlette.responses import HTMLResponse, Response

from tintype import __version__, catalog
from tintype.errors import Json
from tintype.fal import PREFIXES
from tintype.store.records import Worker
from tintype.web.operation import answers
from tintype.web.responses import json_response
from tintype.web.services import Call

_HTML = Path(__file__).parent / "html"
#: What a person reads who follows the `url` of an error.
ERRORS_PAGE = (_HTML / "errors.html").read_text("utf-8")
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
#: What a program is answered at /.
FRONT_JSON = {
    **dict.fromkeys(("name", "version", "what", "health", "ready", "errors", "openapi"), str),
    **dict.fromkeys(("endpoints", "prefixes"), dict[str, str]),
}
_LANE = {**dict.fromkeys(("lane", "device", "host", "state"), str), **{"seconds_since_seen": float, "alive": bool}}


async def front(call: Call) -> Response:
    """Tells programs what this is and where to go."""
    return json_response(
        {
            "name": "tintype",
            "version": __version__,
            "what": "Your own fal for personalization: trains LoRAs and generates with them behind fal's HTTP API.",
            "endpoints": {endpoint.id: endpoint.title for endpoint in catalog.ENDPOINTS},
            "prefixes": {prefix: f"{call.origin}/{prefix}" for prefix in PREFIXES},
            "health": f"{call.origin}/health",
            "ready": f"{call.origin}/ready",
            "errors": f"{call.origin}/docs/errors",
            "openapi": f"{call.origin}/openapi.json",
        }
    )


@answers({"status": str})
async def health(_call: Call) -> Response:
    """Answers as long as the web process is up."""
    return json_response({"status": "ok"})


@answers({"status": str, "detail": str, "lanes": [_LANE]}, status=(200, 503))
async def ready(call: Call) -> Response:
    """Answers 200 only when every lane was heard of within two heartbeats."""
    now = time.time()
    horizon = 2 * call.settings.heartbeat_seconds
    lanes = [lane_of(worker, now, horizon) for worker in current(await call.store.workers.list())]
    is_ready = bool(lanes) and all(lane["alive"] for lane in lanes)
    message = "All lanes are alive."
    if not lanes:
        message = "No worker has announced itself. `tintype serve` starts them; its output says what keeps them."
    elif not is_ready:
        message = "Some lanes were not heard of; they are restarted where `tintype serve` runs."
    status = {"status": "ready" if is_ready else "not_ready", "detail": message, "lanes": lanes}
    return json_response(status, 200 if is_ready else 503)


def current(workers: list[Worker]) -> list[Worker]:
    """Picks one worker per lane: a restarted supervisor takes the place of the dead one it followed."""
    latest: dict[tuple[str, str, str], Worker] = {}
    for worker in sorted(workers, key=lambda worker: worker.seen_at):
        latest[worker.host, worker.device, worker.lane] = worker
    return sorted(latest.values(), key=lambda worker: (worker.host, worker.device, worker.lane))


def lane_of(worker: Worker, now: float, horizon: float) -> Json:
    """Describes a lane, and whether it was heard of within `horizon` seconds."""
    return {
        "lane": worker.lane,
        "device": worker.device,
        "host": worker.host,
        "state": worker.state,
        "seconds_since_seen": round(max(0.0, now - worker.seen_at), 3),
        "alive": now - worker.seen_at <= horizon,
    }


async def error_page(_call: Call) -> Response:
    """Explains each error type; the `url` of every error detail points here."""
    return HTMLResponse(ERRORS_PAGE, headers=_POLICY)
