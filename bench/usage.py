"""How long usage takes to be added up over a long history: 100,000 requests of a year, on SQLite and on Postgres.

Requests are written as they are kept, with inputs and outputs of the usual length, and then each query of the platform
API is asked by itself.

    python bench/usage.py --requests 100000
    python bench/usage.py --database postgresql://…
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from tintype.catalog import ENDPOINTS
from tintype.errors import Failure
from tintype.settings import Settings
from tintype.store import Store, schema
from tintype.store.usage import Which

YEAR = 365 * 86400.0
BATCH = 2000
PEOPLE = 20


async def fill(store: Store, count: int, now: float) -> None:
    """Writes a history, evenly over the year before `now`."""
    dice = random.Random(0)
    owners = [f"person {number}" for number in range(PEOPLE)]
    for first in range(0, count, BATCH):
        rows = [
            _row(dice, owners, now - YEAR * (1 - number / count)) for number in range(first, min(first + BATCH, count))
        ]
        async with store._database.write() as connection:
            await connection.execute(sa.insert(schema.requests), rows)
    async with store._database._engine.connect() as connection:
        if store._database.sqlite:
            return
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("VACUUM ANALYZE requests")


def _row(dice: random.Random, owners: list[str], created_at: float) -> dict[str, Any]:
    endpoint, owner, seconds = dice.choice(ENDPOINTS), dice.choice(owners), dice.expovariate(1 / 20)
    code = dice.choices((200, 422, 500), (95, 3, 2))[0]
    images = [{"url": f"tintype:files/{uuid.UUID(int=dice.getrandbits(128))}/0.jpg", "width": 1024} for _ in range(4)]
    return {
        "id": str(uuid.UUID(int=dice.getrandbits(128))), "endpoint_id": endpoint.id, "kind": endpoint.kind,
        "status": "COMPLETED", "outcome": "ok" if code == 200 else "failed", "status_code": code, "priority": 0,
        "input": {"prompt": "a portrait " * 30, "seed": dice.getrandbits(32)},
        "output": {"images": images} if code == 200 else None,
        "failure": None if code == 200 else Failure(code, {"message": "no"}, "internal_error").to_json(),
        "key_id": str(uuid.uuid5(uuid.NAMESPACE_URL, owner)), "owner": owner, "origin": "http://127.0.0.1:8787",
        "affinity": "flux", "sync": False, "store_io": True, "tags": {}, "created_at": created_at,
        "started_at": created_at + 1, "ended_at": created_at + 1 + seconds, "units": dice.choice((1.0, 2.0, 1000.0)),
        "operations": dice.choice((1e15, 2e15, 4e15)), "device_seconds": seconds, "watt_hours": seconds / 10,
    }  # fmt: skip


async def measure(work: Callable[[], Awaitable[object]], times: int) -> tuple[float, float]:
    """Returns the median milliseconds, and those of this process's processor time, which other programs do not lengthen
    (Postgres computes elsewhere). The first run, which reads the file, does not count."""
    taken = []
    for _ in range(times + 1):
        began, busy = time.perf_counter(), time.process_time()
        await work()
        taken.append((1000 * (time.perf_counter() - began), 1000 * (time.process_time() - busy)))
    elapsed, computed = zip(*taken[1:], strict=True)
    return statistics.median(elapsed), statistics.median(computed)


async def main(database_url: str, count: int, times: int) -> None:
    store, now = await Store.open(database_url), time.time()
    began = time.perf_counter()
    await fill(store, count, now)
    console = Console()
    console.print(f"{count:,} requests written in {time.perf_counter() - began:.1f} s")
    whole = [(now - YEAR - 1, now + 3600)]
    days = [(now - YEAR + day * 86400, now - YEAR + (day + 1) * 86400) for day in range(365)]
    hours = [(now - 1000 * 3600 + hour * 3600, now - 999 * 3600 + hour * 3600) for hour in range(1000)]
    everybody, one, trainer = Which(), Which(owner="person 3"), ENDPOINTS[0]
    queries: dict[str, Callable[[], Awaitable[object]]] = {
        "usage, summary of the year": lambda: store.usage.sums(whole, everybody),
        "usage, summary of the year, by key": lambda: store.usage.sums(whole, everybody, by_key=True),
        "usage, summary of the year, one person": lambda: store.usage.sums(whole, one),
        "usage, the year by days": lambda: store.usage.sums(days, everybody),
        "usage, the last 30 days by days": lambda: store.usage.sums(days[-30:], everybody),
        "usage, the last 1000 hours by hours": lambda: store.usage.sums(hours, everybody),
        "usage, the last 1000 hours by hours and key": lambda: store.usage.sums(hours, everybody, by_key=True),
        "analytics, percentiles of the year": lambda: store.usage.percentiles(whole, everybody, "duration", (50, 99)),
        "analytics, percentiles of 30 days": lambda: store.usage.percentiles(
            days[-30:], everybody, "duration", (50, 75, 90, 99)
        ),
        "requests, the latest 50": lambda: store.usage.ended((now - 86400, now), everybody, limit=51),
        "requests, the longest 50 of the year": lambda: store.usage.ended(
            whole[0], everybody, by_duration=True, limit=51
        ),
        "estimate, of one size": lambda: store.usage.usual_run(trainer.id, 2e15),
        "estimate, in proportion": lambda: store.usage.usual_run(trainer.id, 3e15),
    }
    gc.freeze()  # as the web process does
    table = Table("query", "median ms", "of the processor")
    for name, work in queries.items():
        table.add_row(name, *(f"{median:.1f}" for median in await measure(work, times)))
    console.print(table)
    await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--database", help="postgresql://… of an empty database; default: a new SQLite file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database=given.database)
        asyncio.run(main(settings.database_url, given.requests, given.times))
    sys.exit(0)
