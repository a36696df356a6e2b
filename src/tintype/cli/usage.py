"""`tintype usage` and `tintype forget`: what ran and what it would have cost, and the end of what a request held."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tintype import catalog
from tintype.catalog.price import CURRENCY
from tintype.cli.data import DataDir, with_store
from tintype.cli.listing import say, show_json, show_table
from tintype.cli.requests import RequestId, find_request
from tintype.errors import BadRequest
from tintype.settings import Settings

if TYPE_CHECKING:
    from tintype.store import Request, Store
    from tintype.store.usage import UsageSum

LONGEST_DAYS = 3660


def usage(
    by: Annotated[Literal["day", "month", "all"], typer.Option(help="What a line adds up.")] = "day",
    days: Annotated[int, typer.Option(min=1, max=LONGEST_DAYS, help="How far back.")] = 31,
    person: Annotated[str | None, typer.Option(help="Only what this person's keys did.", show_default=False)] = None,
    data_dir: DataDir = None,
) -> None:
    """Show what ran, how long devices worked for it, and what fal would have charged."""
    since = _midnight(datetime.now()) - timedelta(days=days - 1)
    starts = [since] if by == "all" else _starts(since, by)
    bounds = [start.timestamp() for start in starts] + [time.time() + 1]

    async def work(store: Store, settings: Settings) -> tuple[list[UsageSum], Settings]:
        from tintype.store.usage import Which

        which = Which(owners=None if person is None else [person])
        return await store.usage.sums(list(itertools.pairwise(bounds)), which), settings

    sums, settings = with_store(data_dir, work)
    stated = catalog.read_prices(settings.prices)
    rows, total = [], 0.0
    for sum_ in sums:
        price = catalog.price_of(sum_.endpoint_id, stated)
        cost = sum_.units * price.price
        total += cost
        energy = "-" if sum_.watt_hours is None else f"{sum_.watt_hours / 1000:.3f}"
        amount = f"{sum_.units:,.10g} {price.unit}"
        when = starts[sum_.span].strftime("%Y-%m" if by == "month" else "%Y-%m-%d")
        row = (when, sum_.endpoint_id, str(sum_.requests), str(sum_.ok), amount, f"{sum_.device_seconds:.1f}")
        rows.append((*row, energy, f"{cost:.4f}"))
    if by != "all" or not rows:
        rows.append(("all", "", "", "", "", "", "", f"{total:.4f}"))
    names = ("from", "endpoint", "requests", "ok", "units", "device seconds", "kWh", f"{CURRENCY} at fal")
    show_table(names, rows)


def forget(
    request_id: RequestId,
    all: Annotated[
        bool, typer.Option("--all", help="Also what was made from it: LoRAs of its photos, images drawn with its LoRA.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete what a request was given and what it made: photos, checkpoints, its LoRA, its pictures. Prints a receipt.

    Its row stays, with when it ran, what it took, and the hashes of what was deleted.
    """
    from tintype.web.forget import forget as forget_request
    from tintype.web.services import Services

    async def look(store: Store, _: Settings) -> tuple[Request, list[Request]]:
        request = await find_request(store, request_id)
        return request, await store.payloads.made_from(request)

    request, made = with_store(data_dir, look)
    for one in made:
        typer.echo(f"made from it: {one.id} ({one.endpoint_id})", err=True)
    if made and not all:
        typer.echo("These stay; --all deletes what they were given and made, too.", err=True)
    meant = [request, *made] if all else [request]
    if running := [one.id for one in meant if one.ended_at is None]:
        remedy = "Cancel them first, or wait until they have ended."
        raise BadRequest(f"Nothing was deleted: {', '.join(running)} have not ended.", remedy=remedy)
    if not yes:
        others = f" and {len(meant) - 1} made from it" if meant[1:] else ""
        typer.confirm(f"Delete all that {request.id} ({request.endpoint_id}){others} was given and made?", abort=True)

    async def work(store: Store, settings: Settings) -> list[dict[str, object]]:
        services, receipts = await Services.open(settings, store), []
        for one in reversed(meant):  # what was made from something goes before it
            results, forgotten = await forget_request(services, one)
            kept = {file.id: problem for file, problem in results if problem is not None}
            receipts.append({"request_id": forgotten.id, **(forgotten.receipt or {}), "kept": kept})
        return receipts

    receipts = with_store(data_dir, work)
    show_json(receipts if all else receipts[0])
    if any(receipt["kept"] for receipt in receipts):
        say("Not everything could go yet; run it again later.")
        raise typer.Exit(1)


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _starts(since: datetime, by: str) -> list[datetime]:
    days = [since + timedelta(days=number) for number in range((datetime.now() - since).days + 1)]
    return [day for number, day in enumerate(days) if by == "day" or number == 0 or day.day == 1]
