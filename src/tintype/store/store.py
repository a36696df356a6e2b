"""The queue's one public face: what was answered with an id is kept, worked on by one worker at a time, and ended once.

Works alike on SQLite (WAL, synchronous=FULL, immediate transactions) and Postgres (skip locked). What it can do is
found with the noun it is about: requests.py (submit, get, logs, cancel, …), leases.py (claim, heartbeat, complete, …),
webhooks.py (webhooks), models.py, workers.py, files.py, keys.py, signing_keys.py, retention.py; how it is kept, in
schema.py and database.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from tintype.store.database import Database
from tintype.store.files import Files
from tintype.store.keys import Keys
from tintype.store.leases import Leases
from tintype.store.models import Models
from tintype.store.requests import Requests
from tintype.store.retention import Retention
from tintype.store.signing_keys import SigningKeys
from tintype.store.webhooks import Outbox
from tintype.store.workers import Workers


class Queue(Requests, Leases, Outbox, Models, Workers, Files, Keys, SigningKeys, Retention):
    """See the module's text. All methods are coroutines and safe to call from several processes at once."""

    @classmethod
    async def open(
        cls, database_url: str, *, lease_seconds: float = 30.0, clock: Callable[[], float] = time.time
    ) -> Self:
        """Connects and brings the schema up to date (Alembic). `database_url` as Settings.database_url."""
        return cls(await Database.open(database_url), lease_seconds=lease_seconds, clock=clock)
