"""Who holds the line for which request: when the last one has gone, the request is cancelled, and nothing else is.

fal's clients send a request again when its connection breaks (Node's does so after five silent minutes by itself). So a
request that was left is cancelled only after a moment, and whoever asks for the same in that moment takes it up again.
Nobody else ever shares a run: four identical calls that wait side by side are four images.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from tintype.store.records import Status
from tintype.store.store import Store

GRACE_SECONDS = 2.0  # the clients' first repetition comes after half a second
RESTART_GRACE_SECONDS = 15.0  # for those whose connection broke with the web process

log = structlog.get_logger("tintype.web")


class SyncRuns:
    """Keeps who waits for which run of one web process."""

    def __init__(self, store: Store, *, grace: float = GRACE_SECONDS) -> None:
        self._store = store
        self._grace = grace
        self._waiting: Counter[str] = Counter()  # by request id
        self._left: dict[str, str] = {}  # digest of what was asked -> id of the request that was left
        self._partings: dict[str, asyncio.Task[None]] = {}  # by request id

    @contextmanager
    def waiting(self, request_id: str, digest: str) -> Iterator[None]:
        """Counts a caller as long as it waits. One that goes before the answer is there is told by the exception."""
        self._waiting[request_id] += 1
        self._stay(request_id)
        try:
            yield
        except BaseException:
            if self._waiting[request_id] == 1:
                self._part(request_id, digest, self._grace)
            raise
        finally:
            self._waiting[request_id] -= 1
            if not self._waiting[request_id]:
                del self._waiting[request_id]

    def take_up(self, digest: str) -> str | None:
        """Returns the request that somebody who asked for the same has left just now; the caller waits for it from
        now on."""
        request_id = self._left.get(digest)
        if request_id is not None:
            self._stay(request_id)
        return request_id

    async def take_over(self) -> None:
        """Counts the runs of an earlier web process as left: their connections broke with it."""
        for request_id, digest in await self._store.requests.unfinished_runs():
            self._part(request_id, digest, RESTART_GRACE_SECONDS)

    async def close(self) -> None:
        """Cancels at once what was left: nobody comes back to a process that is stopping."""
        left = list(self._partings)
        for request_id in left:
            self._stay(request_id)
        for request_id in left:
            await self._cancel(request_id)

    def _part(self, request_id: str, digest: str, grace: float) -> None:
        self._stay(request_id)
        self._left[digest] = request_id
        self._partings[request_id] = asyncio.create_task(self._cancel_after(grace, request_id))

    def _stay(self, request_id: str) -> None:
        """Notes that somebody waits again."""
        parting = self._partings.pop(request_id, None)
        if parting is not None:
            parting.cancel()
            self._left = {digest: left for digest, left in self._left.items() if left != request_id}

    async def _cancel_after(self, grace: float, request_id: str) -> None:
        await asyncio.sleep(grace)
        self._left = {digest: left for digest, left in self._left.items() if left != request_id}
        await self._cancel(request_id)
        del self._partings[request_id]  # not before: `close` sees to what is not done yet

    async def _cancel(self, request_id: str) -> None:
        request = await self._store.requests.get(request_id)
        # One that was also submitted to the queue is not a run any more.
        if request is not None and request.sync and request.status is not Status.COMPLETED:
            await self._store.requests.cancel(request_id)
            log.info("nobody waits for this run any more: cancelled", request_id=request_id)
