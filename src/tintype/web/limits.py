"""What one person may have of the web process at a time: open streams, and requests sent in a minute.

What has rows is counted where they are written, in their transactions (store/requests.py, store/files.py). Polls are
never counted: ten a second are what fal's Python client sends.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from contextlib import ExitStack

from tintype.settings import Limits


class PersonLimits:
    """Counts streams and submits by person; "" is everybody, where no key is asked for."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._streams: Counter[str] = Counter()
        self._busy_until: dict[str, float] = {}  # when the last of the submits counted is a minute's share old

    def open_stream(self, owner: str) -> ExitStack:
        """Counts a stream until what is returned is closed. Raises LimitReached."""
        self._limits.check("open_streams", self._streams[owner], "Close one, or poll the status: that is not limited.")
        self._streams[owner] += 1
        held = ExitStack()
        held.callback(self._streams.subtract, {owner: 1})
        return held

    def count_submit(self, owner: str) -> None:
        """Counts a request that is sent; as many as a minute's at once, and then as they become free. Raises
        LimitReached."""
        if most := self._limits.submits_per_minute:
            now = time.monotonic()
            busy = max(self._busy_until.get(owner, now), now)
            counted, wait = math.ceil((busy - now) * most / 60), math.ceil(60 / most)
            retry = {"Retry-After": str(wait)}
            self._limits.check("submits_per_minute", counted, f"Send it again in {wait} s.", retry)
            self._busy_until[owner] = busy + 60 / most
