"""`tintype requests`: what was asked of this installation, how far it is, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tintype import catalog
from tintype.cli.data import SEARCHED, DataDir, only_one, with_store
from tintype.cli.keys import when
from tintype.cli.listing import say, show_json, show_table
from tintype.errors import BadRequest
from tintype.files.urls import render
from tintype.settings import Settings
from tintype.store import Outcome, Status

if TYPE_CHECKING:
    from tintype.store import Request, Store

app = typer.Typer(
    no_args_is_help=True, help="List, inspect, cancel and retry requests.",
    epilog="Example: [bold]tintype requests logs 5b1c0000[/]",
)  # fmt: skip

RequestId = Annotated[str, typer.Argument(help="Id of the request; its first characters are enough.")]
LATEST = 50


@app.command("list", epilog="Example: [bold]tintype requests list --status IN_PROGRESS[/]")
def list_requests(
    status: Annotated[Status | None, typer.Option(help="Only those of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = LATEST,
    data_dir: DataDir = None,
) -> None:
    """List requests, newest first."""

    rows = []
    for request in with_store(data_dir, lambda store, _: store.requests.list(status=status, limit=limit)):
        progress = f"{request.step}/{request.total_steps}" if request.total_steps else ""
        row = (request.id, request.endpoint_id, _state(request), progress, when(request.created_at))
        rows.append((*row, str(request.attempts)))
    show_table(("id", "endpoint", "status", "progress", "sent", "attempts"), rows)


@app.command(epilog="Example: [bold]tintype requests show 5b1c0000[/]")
def show(request_id: RequestId, data_dir: DataDir = None) -> None:
    """Show one request whole, as JSON: input, output or failure, and its attempts."""

    async def work(store: Store, settings: Settings) -> dict[str, object]:
        request = await find_request(store, request_id)
        attempts = await store.requests.attempts(request.id)
        price = catalog.price_of(request.endpoint_id, catalog.read_prices(settings.prices))
        return {
            "id": request.id,
            "endpoint": request.endpoint_id,
            "status": request.status,
            "outcome": request.outcome,
            "sent": when(request.created_at),
            "started": when(request.started_at),
            "ended": when(request.ended_at),
            "step": request.step,
            "total_steps": request.total_steps,
            "checkpoint": max((a.checkpoint_step for a in attempts if a.checkpoint_step is not None), default=None),
            "input": request.input,
            "output": render(request.output, request.origin) if request.output else None,
            "failure": request.failure.body if request.failure else None,
            "units": request.units,
            "dollars_at_fal": round(price.price * request.units, 6) if request.outcome is Outcome.OK else 0.0,
            "device_seconds": round(request.device_seconds, 3),
            "watt_hours": request.watt_hours,
            "attempts": [
                {"number": a.number, "worker": a.worker_id, "started": when(a.started_at), "ended": when(a.ended_at),
                 "ending": a.ending, "cause": a.cause, "last_step": a.last_step, "checkpoint": a.checkpoint_step}
                for a in attempts
            ],
        }  # fmt: skip

    show_json(with_store(data_dir, work))


@app.command(epilog="Example: [bold]tintype requests logs 5b1c0000[/]")
def logs(request_id: RequestId, data_dir: DataDir = None) -> None:
    """Print a request's log."""

    async def work(store: Store, _: Settings) -> None:
        request = await find_request(store, request_id)
        for line in await store.requests.logs(request.id):
            message = line.message.replace("\n", "\n" + " " * 26)  # a line of its own has a time
            say(f"{when(line.at)} {line.level:5} {message}")

    with_store(data_dir, work)


@app.command(epilog="Example: [bold]tintype requests cancel 5b1c0000[/]")
def cancel(request_id: RequestId, data_dir: DataDir = None) -> None:
    """Cancel a request; one that runs stops at its next step."""

    async def work(store: Store, _: Settings) -> str:
        request = await find_request(store, request_id)
        if request.status is Status.COMPLETED:
            raise BadRequest(f"Request {request.id} has already ended ({_state(request)}).")
        changed = await store.requests.cancel(request.id)
        return "cancelled" if changed and changed.status is Status.COMPLETED else "cancellation requested"

    say(with_store(data_dir, work))


@app.command(epilog="Example: [bold]tintype requests stop 5b1c0000[/]")
def stop(request_id: RequestId, data_dir: DataDir = None) -> None:
    """End a running training at its next step, as a success: the LoRA so far is its result."""

    async def work(store: Store, _: Settings) -> str:
        request = await find_request(store, request_id)
        if request.status is Status.COMPLETED:
            raise BadRequest(f"Request {request.id} has already ended ({_state(request)}).")
        await store.requests.stop(request.id)
        return "stop requested"

    say(with_store(data_dir, work))


@app.command(epilog="Example: [bold]tintype requests retry 5b1c0000[/]")
def retry(request_id: RequestId, data_dir: DataDir = None) -> None:
    """Put a failed or cancelled request back in the queue, under its id, from its last checkpoint."""

    async def work(store: Store, _: Settings) -> str:
        request = await find_request(store, request_id)
        if request.outcome not in (Outcome.FAILED, Outcome.CANCELLED):
            raise BadRequest(
                f"Request {request.id} is {_state(request)}; only failed or cancelled ones can be retried."
            )
        await store.requests.retry(request.id)
        return request.id

    say(f"queued again: {with_store(data_dir, work)}")


async def find_request(store: Store, request_id: str) -> Request:
    """Finds a request by its id, or by its first characters. Raises NotFound and BadRequest."""
    if exact := await store.requests.get(request_id):
        return exact
    return only_one(await store.requests.list(limit=SEARCHED), request_id, "request")


def _state(request: Request) -> str:
    return f"{request.status} ({request.outcome})" if request.outcome else str(request.status)
