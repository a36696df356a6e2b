"""The store: what was answered with an id is kept, worked on by one worker at a time, and ended once.

Works alike on SQLite (WAL, synchronous=FULL, immediate transactions) and Postgres (skip locked). Each noun has its
part, in a module of its name; how all of it is kept, in schema.py and database.py.
"""

from __future__ import annotations

import time
from typing import Self

from tintype.settings import Limits
from tintype.store.database import Database
from tintype.store.datasets import Datasets
from tintype.store.files import Files
from tintype.store.keys import Keys
from tintype.store.leases import Leases
from tintype.store.models import Models
from tintype.store.payloads import Payloads
from tintype.store.repository import Clock
from tintype.store.requests import Requests
from tintype.store.usage import Usage
from tintype.store.webhooks import Webhooks
from tintype.store.workers import Workers


class Store:
    """Holds the parts. All their methods are coroutines and safe to call from several processes at once."""

    def __init__(self, database: Database, *, lease_seconds: float, clock: Clock, limits: Limits | None = None) -> None:
        self._database = database
        self.requests = Requests(database, clock, limits)
        self.leases = Leases(database, clock, lease_seconds, limits)
        self.workers = Workers(database, clock)
        self.keys = Keys(database, clock)
        self.files = Files(database, clock, self.keys, limits)
        self.models = Models(database, clock)
        self.datasets = Datasets(database, clock, limits)
        self.webhooks = Webhooks(database, clock)
        self.payloads = Payloads(database, clock)
        self.usage = Usage(database, clock)

    @classmethod
    async def open(
        cls, database_url: str, *, lease_seconds: float = 30.0, clock: Clock = time.time, limits: Limits | None = None
    ) -> Self:
        """Connects and brings the schema up to date (Alembic). `database_url` as Settings.database_url; without
        `limits` there are none."""
        return cls(await Database.open(database_url), lease_seconds=lease_seconds, clock=clock, limits=limits)

    async def close(self) -> None:
        """Lets what has begun be finished, then ends all connections."""
        await self._database.close()
