"""Photos that show somebody else than the others of their dataset, found in the background while reports are answered.

What a face is known by is biometric: it stays in memory, for as long as the process or the photo is there, and is
never written anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import anyio.to_thread
import structlog

from tintype.errors import TintypeError
from tintype.files import Objects
from tintype.likeness.installed import faces_installed
from tintype.store.records import DatasetPhoto
from tintype.web.photo_process import PhotoProcess

State = Literal["not_measured", "measuring", "measured", "not_installed", "failed"]
_MOST_KNOWN = 20_000  # photos whose embeddings are held: 512 floats of Python each take 5 kB

log = structlog.get_logger("tintype.web")


class Strangers:
    """Measures the photos of datasets, one after another, and remembers what came of it."""

    def __init__(self, objects: Objects, spool_folder: Path) -> None:
        self._objects, self._folder = objects, spool_folder
        self._process = PhotoProcess("tintype.likeness")
        self._embeddings: dict[str, list[float] | None] = {}  # by the ids of photos
        self._found: dict[str, tuple[frozenset[str], State, frozenset[str]]] = {}  # by the ids of datasets
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def among(self, dataset_id: str, photos: Sequence[DatasetPhoto], *, measure: bool) -> tuple[State, frozenset[str]]:
        """Tells which photos show somebody else, and whether that is known; with `measure` begins to find out."""
        if not faces_installed():
            return "not_installed", frozenset()
        asked = frozenset(photo.id for photo in photos)
        found = self._found.get(dataset_id)
        if found is not None and found[0] == asked:
            return found[1:]
        if dataset_id not in self._tasks:
            if not measure:
                return "not_measured", frozenset()
            self._tasks[dataset_id] = asyncio.create_task(self._measure(dataset_id, list(photos)))
        return "measuring", frozenset()

    def forget(self, dataset_id: str, photo_ids: Sequence[str]) -> None:
        """Forgets photos that are no more."""
        self._found.pop(dataset_id, None)
        if dataset_id in self._tasks:
            self._tasks[dataset_id].cancel()
        for photo_id in photo_ids:
            self._embeddings.pop(photo_id, None)

    async def close(self) -> None:
        """Ends what is under way."""
        for task in list(self._tasks.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._process.close()

    async def _measure(self, dataset_id: str, photos: Sequence[DatasetPhoto]) -> None:
        asked, strangers = frozenset(photo.id for photo in photos), frozenset[str]()
        state: State = "failed"
        try:
            for photo in photos:
                if photo.id not in self._embeddings:
                    self._remember(photo.id, await self._embedding(photo))
            told = await self._process.ask("strangers", embeddings=[self._embeddings.get(one.id) for one in photos])
            state, strangers = "measured", frozenset(photos[number].id for number in told["strangers"])
        except (TintypeError, OSError) as problem:  # a photo that was removed meanwhile, or a process that died
            log.warning("strangers in a dataset were not found out", dataset_id=dataset_id, problem=str(problem))
        finally:
            self._found[dataset_id] = asked, state, strangers
            self._tasks.pop(dataset_id, None)

    async def _embedding(self, photo: DatasetPhoto) -> list[float] | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / "photo"
            await anyio.to_thread.run_sync(self._objects.copy_to, photo.file_key, path)
            told = await self._process.ask("embed", path=str(path), name=photo.name)
        embedding: list[float] | None = told["embedding"]
        return embedding

    def _remember(self, photo_id: str, embedding: list[float] | None) -> None:
        while len(self._embeddings) >= _MOST_KNOWN:
            self._embeddings.pop(next(iter(self._embeddings)))
        self._embeddings[photo_id] = embedding
