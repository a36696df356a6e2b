"""A process of its own at a shared queue, for the tests that need several: `actor.py submit|work URL …`.

submit URL COUNT   submits so many and prints each id once it was answered, then waits to be killed if COUNT is 0
work URL NAME      claims and completes until nothing is left, printing each id it claimed
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from tintype.store import NewRequest, Store


async def submit(store: Store, count: int) -> None:
    for _ in range(count) if count else itertools.count():
        request, _ = await store.requests.submit(NewRequest("fal-ai/trainer", "training", {"steps": 1}))
        print(request.id, flush=True)


async def work(store: Store, name: str) -> None:
    resident = ["even"] if name.endswith("0") else []
    misses = 0
    while misses < 5:  # skip locked may pass by what another process only just looks at
        claim = await store.leases.claim(name, "training", resident=resident)
        if claim is None:
            misses += 1
            await asyncio.sleep(0.05)
            continue
        misses = 0
        print(claim.request.id, flush=True)
        await store.leases.heartbeat(claim, step=1, total=1)
        await store.leases.complete(claim, {"by": name}, [])


async def main(what: str, url: str, argument: str) -> None:
    store = await Store.open(url, lease_seconds=3600)  # a slow machine must not look like a dead worker
    try:
        await (submit(store, int(argument)) if what == "submit" else work(store, argument))
    finally:
        await store.close()


asyncio.run(main(*sys.argv[1:]))
