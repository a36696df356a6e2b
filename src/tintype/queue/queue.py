"""The queue's one public face: what was answered with an id is kept, worked on by one worker at a time, and ended once.

Works alike on SQLite (WAL, synchronous=FULL, immediate transactions) and Postgres (skip locked). What it can do is
found with the noun it is about: requests.py (submit, get, logs, cancel, …), leases.py (claim, heartbeat, complete, …),
outbox.py (webhooks), models.py, workers.py, files.py, keys.py, signing_keys.py, retention.py; how it is kept, in
schema.py and database.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from tintype.queue.database import Database
from tintype.queue.files import Files
from tintype.queue.keys import Keys
from tintype.queue.leases import Leases
from tintype.queue.models import Models
from tintype.queue.outbox import Outbox
from tintype.queue.requests import Requests
from tintype.queue.retention import Retention
from tintype.queue.signing_keys import SigningKeys
from tintype.queue.workers import Workers


class Queue(Requests, Leases, Outbox, Models, Workers, Files, Keys, SigningKeys, Retention):
    """See the module's text. All methods are coroutines and safe to call from several processes at once."""

    @classmethod
    async def open(
        cls, database_url: str, *, lease_seconds: float = 30.0, clock: Callable[[], float] = time.time
    ) -> Self:
        """Connects and brings the schema up to date (Alembic). `database_url` as Settings.database_url."""
        return cls(await Database.open(database_url), lease_seconds=lease_seconds, clock=clock)
