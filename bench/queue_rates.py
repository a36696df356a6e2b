"""How many submits, claims and polls the queue does a second: `python bench/queue_rates.py [--json] [--database URL]`.

Submits and whole turns (claim, heartbeat, complete) are durable writes, so on SQLite they follow the disk's fsync;
polls are reads. Several callers at once, as a web process has them. Without --database: a SQLite file in a temporary
folder (give one on the disk in question with --database sqlite:////path/to/bench.db).

Not named queue.py: a script's folder is searched first, and the standard library has a module of that name.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tintype.settings import load_settings
from tintype.store import NewRequest, Store

CALLERS = 8
INPUT = {"images_data_url": "tintype-file:" + "0" * 32, "trigger_phrase": "a person", "steps": 500}


async def rate(count: int, one: Callable[[int], Awaitable[object]], callers: int = CALLERS) -> float:
    """Calls a second of `one(0) … one(count - 1)` by several callers at once."""
    numbers = iter(range(count))

    async def call() -> None:
        for number in numbers:
            await one(number)

    start = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return count / (time.perf_counter() - start)


async def measure(url: str, count: int) -> dict[str, float]:
    """Figures by name: calls a second, except `open_ms`."""
    await (await Store.open(url)).close()
    start = time.perf_counter()
    store = await Store.open(url)
    figures = {"open_ms": (time.perf_counter() - start) * 1000}
    ids: list[str] = []

    async def submit(number: int) -> None:
        request, _ = await store.requests.submit(NewRequest("fal-ai/trainer", "training", INPUT, key_id="bench"))
        ids.append(request.id)

    async def turn(number: int) -> None:
        claim = await store.leases.claim("bench", "training", resident=["flux"])
        if claim is not None:
            await store.leases.heartbeat(claim, step=1, total=1)
            await store.leases.complete(claim, {"done": True}, [])

    _, key = await store.keys.create("bench")
    figures["submits"] = await rate(count, submit)
    figures["claim_heartbeat_complete"] = await rate(count, turn)
    figures["idle_claims"] = await rate(count, lambda _: store.leases.claim("bench", "inference"))
    figures["polls_get"] = await rate(count, lambda number: store.requests.get(ids[number % len(ids)]))
    figures["polls_version"] = await rate(count, lambda number: store.requests.version(ids[number % len(ids)]))
    figures["key_checks"] = await rate(count, lambda _: store.keys.check(key))
    await store.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--count", type=int, default=1000, help="calls of each kind")
    parser.add_argument("--database", help="postgresql://… or sqlite:///…")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = load_settings(data_dir=Path(folder), database=given.database).database_url
        figures = asyncio.run(measure(url, given.count))
    if given.json:
        print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
        return
    table = Table("what", "a second", title=f"queue on {url.split(':')[0]}, {given.count} calls, {CALLERS} callers")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
