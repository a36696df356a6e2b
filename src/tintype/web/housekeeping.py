"""What has to happen now and then for the others to stay right: expired files go, abandoned uploads go, deadlines pass.

Deadlines and leases are looked after by the supervisors too; doing it here as well means that a caller hears of an
expired deadline even when no supervisor is left.
"""

from __future__ import annotations

import time

import anyio
import anyio.to_thread
import structlog

from tintype.web.services import Services

_LOOK_SECONDS = 5.0
_FILES_SECONDS = 60.0
_STALE_SECONDS = 24 * 3600.0  # an upload that nobody went on with
_ORPHANS_SECONDS = 6 * 3600.0
_ORPHAN_SECONDS = 7 * 86400.0  # longer than any job publishes files before its result makes them known
_BATCH = 100

log = structlog.get_logger("tintype.web")


async def keep_house(services: Services) -> None:
    """Runs until cancelled."""
    next_files = next_orphans = 0.0
    while True:
        try:
            await services.queue.reap()
            if time.monotonic() >= next_files:
                await remove_expired(services)
                await anyio.to_thread.run_sync(services.uploads.discard_stale, _STALE_SECONDS)
                await anyio.to_thread.run_sync(services.objects.discard_unfinished, _STALE_SECONDS)
                next_files = time.monotonic() + _FILES_SECONDS
            if time.monotonic() >= next_orphans:
                await remove_orphans(services)
                next_orphans = time.monotonic() + _ORPHANS_SECONDS
        except Exception:  # a database or bucket that is away for a moment must not end housekeeping for good
            log.exception("housekeeping failed; it is tried again")
        await anyio.sleep(_LOOK_SECONDS)


async def remove_expired(services: Services) -> int:
    """Removes expired files, bytes before rows, so that nothing is left over. Returns how many."""
    removed = 0
    while True:
        expired = await services.queue.expired_files(_BATCH)
        for file in expired:
            await anyio.to_thread.run_sync(services.objects.delete, file.key)
            await services.queue.remove_file(file.id)
        removed += len(expired)
        if len(expired) < _BATCH:
            return removed


async def remove_orphans(services: Services, older_than: float = _ORPHAN_SECONDS) -> int:
    """Removes objects that no row speaks of: of attempts that were killed, and of uploads between bytes and row.
    Returns how many."""
    removed = 0
    batches = services.objects.older_than(older_than)
    while (keys := await anyio.to_thread.run_sync(next, batches, None)) is not None:
        known = await services.queue.known_files([key.partition("/")[0] for key in keys])
        for key in keys:
            if key.partition("/")[0] not in known:
                await anyio.to_thread.run_sync(services.objects.delete, key)
                removed += 1
    return removed
