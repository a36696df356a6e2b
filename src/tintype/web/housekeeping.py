"""What has to happen now and then for the others to stay right: what has expired goes, what was abandoned goes, what
nobody can go on with goes, and deadlines pass.

Deadlines and leases are looked after by the supervisors too; doing it here as well means that a caller hears of an
expired deadline even when no supervisor is left.
"""

from __future__ import annotations

import hashlib
import time

import anyio
import anyio.to_thread
import structlog

from tintype.files.checkpoints import remove_published, remove_work, work_of_requests
from tintype.files.quantised import remove_unused
from tintype.files.uploads import STALE_SECONDS
from tintype.files.urls import is_file_id
from tintype.store.records import Outcome, Request, Status
from tintype.web.services import Services

_LOOK_SECONDS = 5.0
_FILES_SECONDS = 60.0
_ORPHANS_SECONDS = 6 * 3600.0
_ORPHAN_SECONDS = 7 * 86400.0  # longer than any job publishes files before its result makes them known
_RETRY_SECONDS = 7 * 86400.0  # how long the checkpoints of a request that failed are kept for a retry
_SIGNS = "installations"
_BATCH = 100

log = structlog.get_logger("tintype.web")


async def keep_house(services: Services) -> None:
    """Runs until cancelled."""
    next_files = next_orphans = 0.0
    while True:
        try:
            await services.store.leases.reap()
            if time.monotonic() >= next_files:
                await tidy(services)
                next_files = time.monotonic() + _FILES_SECONDS
            if time.monotonic() >= next_orphans:
                await remove_orphans(services)
                next_orphans = time.monotonic() + _ORPHANS_SECONDS
        except Exception:  # a database or bucket that is away for a moment must not end housekeeping for good
            log.exception("housekeeping failed; it is tried again")
        await anyio.sleep(_LOOK_SECONDS)


async def tidy(services: Services) -> dict[str, int]:
    """Removes all that is over. Returns how much of each kind, by a name for people."""
    erased = 0
    while batch := await services.store.requests.erase_unstored():
        erased += batch
    unfinished = await anyio.to_thread.run_sync(services.uploads.discard_stale, STALE_SECONDS)
    await anyio.to_thread.run_sync(services.objects.discard_unfinished, STALE_SECONDS)
    return {
        "results that were not to be kept": erased,
        "expired files": await remove_expired(services),
        "unfinished uploads": unfinished,
        "work folders of ended requests": await remove_ended_work(services),
        "rounded weights that nobody reads": await anyio.to_thread.run_sync(
            remove_unused, services.settings.quantised_dir
        ),
    }


async def remove_expired(services: Services) -> int:
    """Removes expired files, bytes before rows, so that nothing is left over. Returns how many."""
    removed = 0
    while True:
        expired = await services.store.files.expired(_BATCH)
        for file in expired:
            await services.remove_file(file)
        removed += len(expired)
        if len(expired) < _BATCH:
            return removed


async def remove_orphans(services: Services, older_than: float = _ORPHAN_SECONDS) -> int:
    """Removes objects that no row speaks of: of attempts that were killed, and of uploads between bytes and row.
    Returns how many."""
    if not await _is_alone(services):
        return 0
    removed = 0
    batches = services.objects.older_than(older_than)
    while (keys := await anyio.to_thread.run_sync(next, batches, None)) is not None:
        ids = {key: key.partition("/")[0] for key in keys}
        known = await services.store.files.known(list(ids.values()))
        for key, file_id in ids.items():
            if is_file_id(file_id) and file_id not in known:
                await anyio.to_thread.run_sync(services.objects.delete, key)
                removed += 1
    return removed


async def _is_alone(services: Services) -> bool:
    """Tells whether no other installation keeps its files in the same place, whose files have no rows here. Each
    leaves a sign of itself there."""
    own = f"{_SIGNS}/{hashlib.sha256(await services.store.keys.secret('installation')).hexdigest()[:32]}"
    if not await anyio.to_thread.run_sync(services.objects.exists, own):
        await anyio.to_thread.run_sync(services.objects.put_bytes, own, b"")
    return await anyio.to_thread.run_sync(services.objects.under, _SIGNS) == [own]


async def remove_ended_work(services: Services) -> int:
    """Removes work folders and checkpoints of requests that have ended and will not be retried. Returns how many."""
    removed, settings = 0, services.settings
    for request_id, changed_at in (await anyio.to_thread.run_sync(work_of_requests, settings)).items():
        request = await services.store.requests.get(request_id)
        if request is None:
            over = time.time() - changed_at > STALE_SECONDS and await _is_alone(services)
        else:
            over = request.status is Status.COMPLETED and _is_past_retrying(request)
        if over:
            known = {file.id for file in await services.store.files.of_request(request_id)}
            await anyio.to_thread.run_sync(remove_published, settings, request_id, known)
            await anyio.to_thread.run_sync(remove_work, settings, request_id)
            removed += 1
    return removed


def _is_past_retrying(request: Request) -> bool:
    if request.outcome is Outcome.OK or request.is_erased or not request.store_io:
        return True
    return time.time() - (request.ended_at or 0.0) > _RETRY_SECONDS
