"""Answers that are given again to a request that is sent again with its Idempotency-Key, for as long as fal does.

They are kept in memory alone: what was deleted must not live on in a database as the names of what there was.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT_SECONDS = 600.0
_MOST = 1000


class KeptAnswers:
    """Keeps the statuses and bodies of the last answers, by what was asked and by whom."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], tuple[float, int, bytes]] = OrderedDict()

    def get(self, asked: tuple[str, ...], now: float) -> tuple[int, bytes] | None:
        """Returns the status and the body of an answer, unless that was too long ago."""
        since, status, body = self._kept.get(asked, (float("-inf"), 0, b""))
        return (status, body) if now - since < KEPT_SECONDS else None

    def put(self, asked: tuple[str, ...], status: int, body: bytes, now: float) -> None:
        """Keeps an answer, at the cost of the oldest."""
        self._kept[asked] = now, status, body
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
