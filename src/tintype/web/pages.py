"""What a person or a probe finds here: the front, health, readiness, and what each error type means."""

from __future__ import annotations

import time
from html import escape

from starlette.responses import HTMLResponse, Response

from tintype import __version__, catalog
from tintype.errors import Json
from tintype.store.records import Worker
from tintype.web.responses import json_response
from tintype.web.services import Call

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#222}"
    "code,pre{background:#f3f1ec;border-radius:4px;padding:.1em .3em}pre{padding:1em;overflow:auto}"
    "dt{font-family:monospace;margin-top:1em}"
)

# What a person reads who follows the `url` of an error.
ERROR_TYPES = {
    "missing": "A required input is absent.",
    "json_invalid": "The body is not JSON.",
    "value_error": "A value is of the right type but makes no sense; the message says why.",
    "one_of": "The value is not one of those in ctx.expected.",
    "greater_than": "The number has to be above ctx.gt.",
    "greater_than_equal": "The number has to be at least ctx.ge.",
    "less_than": "The number has to be below ctx.lt.",
    "less_than_equal": "The number may be at most ctx.le.",
    "sequence_too_short": "A text or list is shorter than ctx.min_length.",
    "sequence_too_long": "A text or list is longer than ctx.max_length.",
    "file_download_error": "The file at a URL could not be fetched; check that it opens without signing in.",
    "file_too_large": "A file is larger than ctx.max_size bytes.",
    "invalid_archive": "The dataset is not an archive that can be opened; ctx.supported_extensions are.",
    "archive_file_count_below_minimum": "The archive holds fewer usable pictures than ctx.min_count.",
    "archive_file_count_exceeds_maximum": "The archive holds more files than ctx.max_count.",
    "image_load_error": "A picture is damaged.",
    "image_too_large": "A picture has more pixels than is safe to decode (ctx.max_width, ctx.max_height).",
    "unsupported_image_format": "A picture's format is not one of ctx.supported_formats.",
    "bad_request": "A header, a query parameter or the path is malformed.",
    "unauthorized": "No key was sent, or one that is not known here.",
    "forbidden": "The host name or the web page is not one that this server answers to, or the file is not for you.",
    "not_found": "There is no such endpoint, request or file.",
    "method_not_allowed": "The URL exists, but not for this method.",
    "still_in_progress": "The result was asked for before there is one.",
    "precondition_failed": "The file is not, or no longer, the one that the request's conditions mean.",
    "payload_too_large": "The body or file is over the server's limit.",
    "range_not_satisfiable": "The byte range lies beyond the end of the file.",
    "queue_full": "More requests wait than fal_max_queue_length allows.",
    "idempotency_key_reused": "This idempotency key stands for another request; send a new one with each.",
    "client_cancelled": "The request was cancelled by whoever sent it.",
    "request_timeout": "The work could not begin within X-Fal-Request-Timeout.",
    "runner_server_error": "The job ran and failed; the message says why.",
    "internal_error": "A fault of this server: its log has the request id.",
    "storage_full": "The disk of this server is full.",
    "storage_unavailable": "The bucket that holds the files does not answer or refuses; asking again may help.",
}


async def front(call: Call) -> Response:
    """What this is and where to go, for people and for programs."""
    endpoints = {endpoint.id: endpoint.title for endpoint in catalog.ENDPOINTS}
    if "text/html" not in call.http.headers.get("accept", ""):
        return json_response(
            {
                "name": "tintype",
                "version": __version__,
                "what": "Your own fal for personalization: trains LoRAs and draws with them, behind fal's HTTP API.",
                "endpoints": endpoints,
                "prefixes": {face: f"{call.origin}/{face}" for face in ("queue", "run", "rest", "cdn")},
                "health": f"{call.origin}/health",
                "ready": f"{call.origin}/ready",
                "errors": f"{call.origin}/docs/errors",
            }
        )
    rows = "".join(f"<li><code>{escape(id_)}</code>: {escape(title)}</li>" for id_, title in endpoints.items())
    recipe = escape(
        "import fal_client, fal_client.client as c\n"
        f'o = "{call.origin}"\n'
        'c.RUN_URL_FORMAT, c.QUEUE_URL_FORMAT = o + "/run/", o + "/queue/"\n'
        'c.REST_URL, c.CDN_URL, c.REALTIME_URL_FORMAT = o + "/rest", o + "/cdn", o.replace("http", "ws") + "/run/"\n'
        'print(fal_client.subscribe("fal-ai/flux-lora", {"prompt": "a portrait"}))'
    )
    body = (
        f"<h1>tintype</h1><p>Your own fal for personalization, version {__version__}. It is running.</p>"
        f"<h2>Endpoints</h2><ul>{rows}</ul><h2>From Python</h2><p>With <code>FAL_KEY</code> set to a key of this "
        f"server:</p><pre>{recipe}</pre><p><a href='/ready'>Are the workers ready?</a> · "
        "<a href='/docs/errors'>What errors mean</a></p>"
    )
    return _page("tintype", body)


async def health(_call: Call) -> Response:
    """The web process is up."""
    return json_response({"status": "ok"})


async def ready(call: Call) -> Response:
    """200 only when every lane was heard of within two heartbeats."""
    now = time.time()
    horizon = 2 * call.settings.heartbeat_seconds
    lanes = [_lane(worker, now, horizon) for worker in current(await call.queue.workers())]
    is_ready = bool(lanes) and all(lane["alive"] for lane in lanes)
    message = "All lanes are alive."
    if not lanes:
        message = "No worker has announced itself. `tintype serve` starts them; its output says what keeps them."
    elif not is_ready:
        message = "Some lanes were not heard of; they are restarted where `tintype serve` runs."
    status = {"status": "ready" if is_ready else "not_ready", "detail": message, "lanes": lanes}
    return json_response(status, 200 if is_ready else 503)


def current(workers: list[Worker]) -> list[Worker]:
    """One worker per lane: a restarted supervisor takes the place of the dead one it followed."""
    latest: dict[tuple[str, str, str], Worker] = {}
    for worker in sorted(workers, key=lambda worker: worker.seen_at):
        latest[worker.host, worker.device, worker.lane] = worker
    return sorted(latest.values(), key=lambda worker: (worker.host, worker.device, worker.lane))


def _lane(worker: Worker, now: float, horizon: float) -> Json:
    return {
        "lane": worker.lane,
        "device": worker.device,
        "host": worker.host,
        "state": worker.state,
        "seconds_since_seen": round(max(0.0, now - worker.seen_at), 3),
        "alive": now - worker.seen_at <= horizon,
    }


async def error_page(_call: Call) -> Response:
    """What each error type means; the `url` of every error detail points here."""
    rows = "".join(f"<dt id='{type_}'>{type_}</dt><dd>{escape(text)}</dd>" for type_, text in ERROR_TYPES.items())
    lead = "Every type that <code>detail[].type</code> or <code>error_type</code> may hold and a person can act on."
    return _page("Errors", f"<h1>Errors</h1><p>{lead}</p><dl>{rows}</dl>")


def _page(title: str, body: str) -> Response:
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{title}</title>"
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return HTMLResponse(
        f"<!doctype html><html lang='en'>{head}<style>{_STYLE}</style><body>{body}</body></html>",
        headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"},
    )
