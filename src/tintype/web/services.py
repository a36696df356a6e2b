"""What every handler works with, and the one request it works on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import anyio.to_thread
from starlette.requests import Request as HttpRequest

from tintype import catalog
from tintype.catalog.price import Price, StatedPrices
from tintype.errors import LimitReached, Unauthorized
from tintype.fal import FAL_PROXY_HEADER, QUEUE_ORIGIN, is_fal_host
from tintype.files import Objects
from tintype.files.uploads import Uploads
from tintype.settings import Settings
from tintype.store.records import StoredFile
from tintype.store.store import Store
from tintype.web.access import host_name, is_own_host
from tintype.web.dataset_strangers import Strangers
from tintype.web.kept_answers import KeptAnswers
from tintype.web.limits import PersonLimits
from tintype.web.photo_process import PhotoProcess
from tintype.web.poll_cache import StatusCache
from tintype.web.signing import Signer
from tintype.web.sync_runs import SyncRuns

KEY_REMEDY = 'Send the header "Authorization: Key <id>:<secret>" (FAL_KEY); `tintype keys create` makes a key.'


@dataclass
class Services:
    """Holds what is opened once per process."""

    settings: Settings
    store: Store
    objects: Objects
    uploads: Uploads
    signer: Signer
    sync_runs: SyncRuns
    limits: PersonLimits
    prices: StatedPrices
    strangers: Strangers
    photos: PhotoProcess = field(default_factory=PhotoProcess)
    statuses: StatusCache = field(default_factory=StatusCache)
    kept_answers: KeptAnswers = field(default_factory=KeptAnswers)
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @classmethod
    async def open(cls, settings: Settings, store: Store) -> Services:
        """Opens the rest around a queue that is open already."""
        objects = Objects.open(settings.storage_url)
        uploads = Uploads(settings.data_dir.resolve() / "uploads", max_bytes=settings.max_upload_bytes)
        return cls(
            settings=settings,
            store=store,
            objects=objects,
            uploads=uploads,
            strangers=Strangers(objects, uploads.spool_folder),
            signer=Signer(await store.keys.secret("web-signing")),
            sync_runs=SyncRuns(store),
            limits=PersonLimits(settings.limits),
            prices=catalog.read_prices(settings.prices),
        )

    @property
    def is_behind_proxy(self) -> bool:
        """Tells whether a proxy brings others here; once one was seen, for good."""
        return bool(self.settings.trusted_proxies) or self._proxy_mark.exists()

    def note_proxy(self) -> None:
        """Keeps in mind that a request came by a proxy."""
        if not self.is_behind_proxy:
            self._proxy_mark.touch(mode=0o600)

    @property
    def _proxy_mark(self) -> Path:
        return self.settings.data_dir / "behind-a-proxy"

    async def check_in_force(self, key_id: str) -> None:
        """Raises Unauthorized for what was begun with a key that was revoked since."""
        if not await self.store.keys.is_in_use(key_id):
            raise Unauthorized("The key that this was begun with was revoked.", remedy=KEY_REMEDY)

    async def add_file(self, file: StoredFile, *, replaces: str = "") -> None:
        """Makes a file visible whose bytes are kept, or removes them again. Raises LimitReached."""
        try:
            await self.store.files.add(file, replaces=replaces)
        except LimitReached:
            await self.remove_file(file)
            raise

    async def remove_file(self, file: StoredFile) -> None:
        """Removes a file, its bytes before its row: what a crash leaves in between is found by the row."""
        await anyio.to_thread.run_sync(self.objects.delete, file.key)
        await self.store.files.remove(file.id)

    def price_of(self, endpoint_id: str) -> Price:
        """Returns what a unit of an endpoint costs at fal, or as the settings say."""
        return catalog.price_of(endpoint_id, self.prices)

    def turn(self, name: str) -> asyncio.Lock:
        """Returns a lock that all who name the same thing share: one client's retry may overlap its first try."""
        return self._turns.setdefault(name, asyncio.Lock())


@dataclass(frozen=True)
class Call:
    """Holds one HTTP request, and whose it is."""

    http: HttpRequest
    services: Services
    key_id: str  # "" where no key is asked for
    owner: str  # whose that key is
    origin: str  # as the caller reaches us, e.g. http://127.0.0.1:8787

    @property
    def params(self) -> Mapping[str, Any]:
        """Returns what the route took out of the path."""
        return self.http.path_params

    @property
    def announced_size(self) -> int:
        """Returns how many bytes the body is said to have; 0 where nothing is said."""
        said = self.http.headers.get("content-length", "")
        return int(said) if said.isdecimal() else 0

    async def body(self, key_id: str | None = None) -> AsyncIterator[bytes]:
        """Reads the body as it comes. Raises Unauthorized once its key (the caller's if none is named) is revoked."""
        async for chunk in self.http.stream():
            await self.services.check_in_force(self.key_id if key_id is None else key_id)
            yield chunk

    def answer_as(self, request_id: str) -> None:
        """Names the queue's request in the response, whatever comes of this call."""
        self.http.state.request_id = request_id

    def is_own_host(self, host: str) -> bool:
        """Tells whether a host name is one under which this server gives out URLs of its files."""
        return is_own_host(self.settings, host) or is_fal_host(host) or host == host_name(urlsplit(self.origin).netloc)

    @property
    def queue_url(self) -> str:
        """Tells what the URLs of requests start with."""
        return queue_url_of(self.http, self.origin)

    @property
    def store(self) -> Store:
        return self.services.store

    @property
    def settings(self) -> Settings:
        return self.services.settings


def queue_url_of(http: HttpRequest, origin: str) -> str:
    """Tells what the URLs of requests start with. Who comes by the fal proxy comes back by it: its key is not ours."""
    return QUEUE_ORIGIN if http.headers.get(FAL_PROXY_HEADER) else f"{origin}/queue"
