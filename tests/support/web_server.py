"""A real server on loopback: uvicorn, the real queue on SQLite, and a worker that claims as a supervisor does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import uvicorn

from tintype import catalog
from tintype.catalog import Kind
from tintype.errors import Cancelled, Failure, LeaseLost
from tintype.files import Objects, internal_url, new_file_id
from tintype.settings import Settings
from tintype.store.records import Claim, LogLine, Request, Scope, Status, StoredFile, Worker
from tintype.store.store import Store
from tintype.web.app import create_app
from tintype.web.server import BoundedProtocol

T = TypeVar("T")


class WebServer:
    """A running server and its key. `hold` and `release` stop and start the worker's claiming. Results have what tests
    look for in them, or what the endpoint declares."""

    def __init__(self, settings: Settings, *, as_declared: bool = False) -> None:
        self.settings = settings
        self._as_declared = as_declared
        self.origin = ""
        self.key = ""
        self._claiming = threading.Event()
        self._claiming.set()
        self._started = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def hold(self) -> None:
        self._claiming.clear()

    def release(self) -> None:
        self._claiming.set()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Key {self.key}"}

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(
            base_url=self.origin, headers=self.headers, trust_env=False, timeout=60, verify=False, **options
        )

    def call(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Does something with the server's queue, on its loop."""
        return asyncio.run_coroutine_threadsafe(work(self._store), self._loop).result(60)

    def request(self, request_id: str) -> Request:
        """Returns a request as the store has it."""
        found = self.call(lambda store: store.requests.get(request_id))
        assert found is not None
        return found

    def create_key(self, name: str, scope: Scope = Scope.API) -> str:
        """Returns a new key of that name."""
        return self.call(lambda store: store.keys.create(name, scope))[1]

    def clear(self) -> None:
        """Ends whatever a test has left unfinished, and lets the server forget that one sent headers of a proxy."""
        (self.settings.data_dir / "behind-a-proxy").unlink(missing_ok=True)

        async def end(store: Store) -> None:
            for status in (Status.IN_QUEUE, Status.IN_PROGRESS):
                for request in await store.requests.list(status=status, limit=1000):
                    await store.requests.cancel(request.id)

        self.call(end)
        self.release()

    def wait(self, request_id: str, status: str, *, seconds: float = 60) -> dict[str, Any]:
        """Polls until a request has a status."""
        ends = time.monotonic() + seconds
        with self.client() as client:
            while True:
                answer: dict[str, Any] = client.get(f"/queue/a/b/requests/{request_id}/status?logs=1").json()
                if answer["status"] == status:
                    return answer
                assert time.monotonic() < ends, answer
                assert not any(task.done() for task in self._working), "the test's worker died"
                time.sleep(0.02)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(60)
        if self._problem:
            raise self._problem

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as problem:
            self._problem = problem
            self._started.set()
            raise

    async def _serve(self) -> None:
        store = await Store.open(self.settings.database_url, limits=self.settings.limits)
        _, self.key = await store.keys.create("test")
        listener = socket.create_server((self.settings.host, 0))
        self.origin = f"http://{self.settings.host}:{listener.getsockname()[1]}"
        app = create_app(self.settings, store)
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="websockets-sansio",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._loop, self._store = asyncio.get_running_loop(), store
        self._working = [asyncio.create_task(self._work(store, kind)) for kind in ("training", "inference")]
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(0.01)
        self._started.set()
        await serving
        for task in self._working:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await store.close()

    async def _work(self, store: Store, kind: Kind) -> None:
        """Claims and completes as a supervisor would; what it does is told by the request's text."""
        worker = Worker(f"test-{kind}", kind, "cpu", "here", os.getpid(), "boot", time.time(), "idle")
        objects, announced = Objects.open(self.settings.storage_url), 0.0
        while True:
            if self._claiming.is_set():
                if time.monotonic() - announced > 1:
                    await store.workers.announce(worker)
                    announced = time.monotonic()
                claim = await store.leases.claim(worker.id, kind)
                if claim is not None:
                    with contextlib.suppress(LeaseLost):
                        await perform(store, objects, claim, as_declared=self._as_declared)
            await asyncio.sleep(0.02)


async def perform(store: Store, objects: Objects, claim: Claim, *, as_declared: bool = False) -> None:
    """A job told by its words: `fail 422`, `slow`, or anything else for a quick success with a file."""
    words = str(claim.request.input.get("trigger_phrase") or claim.request.input.get("prompt") or "")
    lines = [LogLine(0, time.time(), "INFO", f"line {number} ünï") for number in range(3)]
    await store.leases.heartbeat(claim, step=1, total=10, metrics={"loss": 0.5, "eta": 3.0}, logs=lines)
    if words.startswith("fail"):
        body = {"detail": [{"loc": ["body", "images_data_url"], "msg": "Not an archive.", "type": "invalid_archive",
                            "url": "/docs/errors#invalid_archive"}], "message": "Not an archive."}  # fmt: skip
        await store.leases.fail(claim, Failure(422, body, "invalid_archive"))
        return
    while words.startswith("slow"):
        await asyncio.sleep(0.05)
        beat = await store.leases.heartbeat(claim, step=2, total=10)
        if beat.cancel:
            await store.leases.fail(claim, Cancelled().failure())
            return
        if beat.stop:
            break
    file_id, data = new_file_id(), b"weights of " + words.encode()
    size = objects.put_bytes(f"{file_id}/lora.safetensors", data)
    file = {"url": internal_url(file_id, "lora.safetensors"), "content_type": "application/octet-stream",
            "file_name": "lora.safetensors", "file_size": size}  # fmt: skip
    stored = StoredFile(file_id, "lora.safetensors", "application/octet-stream", size, time.time())
    output: dict[str, Any] = {"diffusers_lora_file": file, "config_file": file, "words": words}
    await store.leases.complete(claim, declared_output(claim.request, file) if as_declared else output, [stored])


def declared_output(request: Request, file: dict[str, Any]) -> dict[str, Any]:
    """What the endpoint of a request declares, with one file in every place of one."""
    endpoint = catalog.get(request.endpoint_id)
    values = {"diffusers_lora_file": file, "config_file": file, "images": [file], "seed": 1, "prompt": "a",
              "timings": {"inference": 0.5}, "has_nsfw_concepts": [False], "model_id": request.model_id,
              "custom_model_uri": "model/a/version/1"}  # fmt: skip
    named = {name: values[name] for name, field in endpoint.output.model_fields.items() if field.is_required()}
    return endpoint.output.model_validate(named).model_dump(mode="json")


@contextlib.contextmanager
def serving(settings: Settings, *, as_declared: bool = False) -> Iterator[WebServer]:
    """A server for as long as the block lasts."""
    server = WebServer(settings, as_declared=as_declared)
    server.start()
    try:
        yield server
    finally:
        server.stop()
