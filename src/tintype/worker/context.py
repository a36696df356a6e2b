"""The JobContext of a compute child: what a job does with it travels over the pipe, or lands in storage unseen.

Nothing here touches SQL. A published file is an object in storage under a fresh id; the row that makes it visible is
written by the supervisor together with the result.
"""

from __future__ import annotations

import itertools
import queue
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tintype.catalog import File
from tintype.catalog.custom_models import ModelReference
from tintype.errors import Cancelled, Drained, MemoryTaken
from tintype.files import Objects, fetch_input, internal_url, new_file_id, render, safe_file_name
from tintype.files.checkpoints import note_published, open_checkpoints, remove_published
from tintype.files.fetch import unknown_file
from tintype.files.urls import is_internal
from tintype.job import Level
from tintype.settings import Settings
from tintype.worker.messages import (
    AskFile,
    AskMemory,
    CheckpointSaved,
    FileAnswer,
    FromChild,
    Log,
    MemoryAnswer,
    Progress,
    Run,
)

ANSWER_SECONDS = 0.1  # between looks at whether a job was cancelled while it waits for an answer
PROGRESS_SECONDS = 0.1  # between two progress messages; the first and the last step are always sent


class Signals:
    """Holds what the pipe's reader thread tells the job: cancelled, to be finished, paused, stopping altogether,
    answers."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.answers: queue.SimpleQueue[FileAnswer | MemoryAnswer] = queue.SimpleQueue()
        self.numbers = itertools.count()  # of questions; the answer to one that nobody waits for is passed over
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._finishing: set[str] = set()
        self._paused: set[str] = set()

    def cancel(self, request_id: str) -> None:
        with self._lock:
            self._cancelled.add(request_id)

    def is_cancelled(self, request_id: str) -> bool:
        with self._lock:
            return request_id in self._cancelled

    def finish(self, request_id: str) -> None:
        with self._lock:
            self._finishing.add(request_id)

    def is_finishing(self, request_id: str) -> bool:
        with self._lock:
            return request_id in self._finishing

    def pause(self, request_id: str) -> None:
        with self._lock:
            self._paused.add(request_id)

    def is_paused(self, request_id: str) -> bool:
        with self._lock:
            return request_id in self._paused

    def forget(self, request_id: str) -> None:
        """Forgets a request that ended: it may come again, by `retry` or after a pause."""
        with self._lock:
            self._cancelled.discard(request_id)
            self._finishing.discard(request_id)
            self._paused.discard(request_id)


class PipeContext:
    """Serves the job of one attempt (see the module's text); `published` are the files its answer may name."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        device: str,
        *,
        send: Callable[[FromChild], None],
        signals: Signals,
        resident_models: Callable[[], object],
    ) -> None:
        self.request_id = run["request_id"]
        self.settings = settings
        self.device = device
        self.published: list[dict[str, Any]] = []
        self.model = ModelReference.from_json(run["model"]) if "model" in run else None
        self._origin = run["origin"]
        self._send = send
        self._signals = signals
        self._resident_models = resident_models
        self._progress_sent_at = 0.0
        self._objects = Objects.open(settings.storage_url)
        folder = settings.work_dir / self.request_id
        self.checkpoint = open_checkpoints(settings, self.request_id, run["token"], self._checkpoint_saved)
        shutil.rmtree(folder / "scratch", ignore_errors=True)  # what attempts that were killed left
        remove_published(settings, self.request_id)
        self.scratch = folder / "scratch" / str(run["token"])
        self.scratch.mkdir(parents=True)
        self.lasting = folder / "lasting"
        self.lasting.mkdir(exist_ok=True)

    @property
    def resident_models(self) -> object:
        """Returns what is resident in this process; the import of the compute libraries waits until a job asks."""
        return self._resident_models()

    def log(self, message: str, level: Level = "INFO") -> None:
        self._send(Log(say="log", request_id=self.request_id, at=time.time(), level=level, message=message))

    def progress(self, step: int, total: int, **metrics: float) -> None:
        now = time.monotonic()
        if now - self._progress_sent_at < PROGRESS_SECONDS and step < total:
            return
        self._progress_sent_at = now
        numbers = {name: float(value) for name, value in metrics.items()}
        self._send(Progress(say="progress", request_id=self.request_id, step=step, total=total, metrics=numbers))

    def raise_if_cancelled(self) -> None:
        if self._signals.is_cancelled(self.request_id):
            raise Cancelled()
        if self._signals.stopping.is_set() or self._signals.is_paused(self.request_id):
            raise Drained()

    def is_asked_to_finish(self) -> bool:
        return self._signals.is_finishing(self.request_id)

    def check_readable(self, url: str) -> None:
        if not is_internal(url):
            return
        number = next(self._signals.numbers)
        self._send(AskFile(say="ask_file", request_id=self.request_id, number=number, reference=url))
        answer = self._answer(number)
        if answer["say"] != "file" or not answer["readable"]:
            raise unknown_file(url)

    def ask_memory(self, most: int, least: int, what: str) -> int | None:
        """Asks how many bytes of the device this process may hold in all; None where nobody counts them.

        Raises MemoryTaken where fewer than `least` are to be had.
        """
        number = next(self._signals.numbers)
        question = AskMemory(
            say="ask_memory", request_id=self.request_id, number=number, most=most, least=least, what=what
        )
        self._send(question)
        answer = self._answer(number)
        assert answer["say"] == "memory"
        if not answer["granted"]:
            raise MemoryTaken(answer["reason"])
        return answer["available"]

    def _answer(self, number: int) -> FileAnswer | MemoryAnswer:
        """Waits for the supervisor's answer to a question; those to earlier ones are passed over."""
        while True:
            self.raise_if_cancelled()
            with suppress(queue.Empty):
                answer = self._signals.answers.get(timeout=ANSWER_SECONDS)
                if answer["number"] == number:
                    return answer

    def fetch(self, url: str, *, max_bytes: int | None = None) -> Path:
        self.check_readable(url)
        return fetch_input(
            url,
            self.scratch,
            objects=self._objects,
            settings=self.settings,
            max_bytes=max_bytes,
            cancelled=self.raise_if_cancelled,
        )

    def publish(
        self, path: Path, content_type: str, file_name: str | None = None, *, lifetime: float | None = None
    ) -> File:
        file_id, name = new_file_id(), safe_file_name(file_name or path.name)
        note_published(self.settings, self.request_id, f"{file_id}/{name}")
        size = self._objects.put_path(f"{file_id}/{name}", path)
        ends = {} if lifetime is None else {"expires_at": time.time() + lifetime}
        self.published.append({"id": file_id, "file_name": name, "content_type": content_type, "size": size, **ends})
        return File(url=internal_url(file_id, name), content_type=content_type, file_name=name, file_size=size)

    def absolute(self, file: File) -> File:
        return file.model_copy(update={"url": render(file.url, self._origin)})

    def _checkpoint_saved(self, step: int) -> None:
        self._send(CheckpointSaved(say="checkpoint", request_id=self.request_id, step=step))
