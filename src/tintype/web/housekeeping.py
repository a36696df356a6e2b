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
_BATCH = 100

log = structlog.get_logger("tintype.web")


async def keep_house(services: Services) -> None:
    """Runs until cancelled."""
    next_files = 0.0
    while True:
        try:
            await services.queue.reap()
            if time.monotonic() >= next_files:
                await remove_expired(services)
                await anyio.to_thread.run_sync(services.uploads.discard_stale, _STALE_SECONDS)
                next_files = time.monotonic() + _FILES_SECONDS
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
