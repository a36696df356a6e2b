"""What every handler works with, and the one request it works on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from starlette.requests import Request as HttpRequest

from tintype.fal import FAL_PROXY_HEADER, QUEUE_ORIGIN
from tintype.files import Objects
from tintype.files.uploads import Uploads
from tintype.settings import Settings
from tintype.store.store import Queue
from tintype.web.poll_cache import Answer, ReplayCache, StatusCache
from tintype.web.signing import Signer
from tintype.web.sync_runs import SyncRuns


@dataclass
class Services:
    """Opened once per process."""

    settings: Settings
    queue: Queue
    objects: Objects
    uploads: Uploads
    signer: Signer
    callers: SyncRuns
    remembered: StatusCache = field(default_factory=StatusCache)
    repeated: ReplayCache = field(default_factory=ReplayCache)
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @classmethod
    async def open(cls, settings: Settings, queue: Queue) -> Services:
        """Around a queue that is open already."""
        return cls(
            settings=settings,
            queue=queue,
            objects=Objects.open(settings.storage_url),
            uploads=Uploads(settings.data_dir.resolve() / "uploads", max_bytes=settings.max_upload_bytes),
            signer=Signer(await queue.secret("web-signing")),
            callers=SyncRuns(queue),
        )

    def turn(self, name: str) -> asyncio.Lock:
        """A lock that all who name the same thing share: one client's retry may overlap its first try."""
        return self._turns.setdefault(name, asyncio.Lock())


@dataclass
class Call:
    """One HTTP request on its way through the server."""

    http: HttpRequest
    services: Services
    origin: str  # as the caller reaches us, e.g. http://127.0.0.1:8787
    params: Mapping[str, str] = field(default_factory=dict)
    face: str | None = None  # the part of fal's API that the host name stands for (routing.py)
    key_id: str = ""
    digest: str = ""  # the same for a POST that is sent again; "" until its body has been read
    repeatable: Answer | None = None  # set where the same question may be given the same answer
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))  # the queue's, once one is known

    @property
    def path(self) -> str:
        return str(self.http.scope["path"])

    @property
    def queue_url(self) -> str:
        """What the URLs of requests start with. Who comes by the fal proxy comes back by it: its key is not ours."""
        return QUEUE_ORIGIN if self.http.headers.get(FAL_PROXY_HEADER) else f"{self.origin}/queue"

    @property
    def queue(self) -> Queue:
        return self.services.queue

    @property
    def settings(self) -> Settings:
        return self.services.settings
