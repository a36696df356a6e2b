"""Writes checkpoints in a thread while steps go on: one at a time, and no more often than writing them is worth.

A checkpoint of a real model has one gigabyte or more. Steps go on meanwhile, but disk and processor are shared, so at
most one part in fifty of the time goes into writing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tintype.errors import StorageFull, StorageUnavailable
from tintype.job import CheckpointStore, Level
from tintype.training.checkpoint import StateCopy

_APART = 50  # times as long as writing the last one took


class CheckpointWriter:
    """Writes into the store of one attempt. `saved_step` is the newest step that is safe; leaving waits for the thread.

    A full disk, or a bucket that is away, costs the checkpoint, not the run: it may be over by the next one. Anything
    else that goes wrong in the thread is raised by the next call.
    """

    def __init__(
        self,
        store: CheckpointStore,
        least_seconds: float,
        log: Callable[[str, Level], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.saved_step = 0
        self._store, self._least_seconds, self._log, self._clock = store, least_seconds, log, clock
        self._seconds = 0.0  # that the last one took
        self._step = 0
        self._begun_at = clock()
        self._writing: Future[float] | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def is_busy(self) -> bool:
        """Tells whether one is being written."""
        if self._writing is not None and self._writing.done():
            self.wait()
        return self._writing is not None

    def is_due(self) -> bool:
        """Tells whether it is time for another one: the last is written, and long enough ago."""
        is_busy = self.is_busy()
        apart = max(self._least_seconds, _APART * self._seconds)
        return not is_busy and self._clock() - self._begun_at >= apart

    def begin(self, step: int, copy: Callable[[], StateCopy]) -> None:
        """Begins to write a copy of the state, made once nothing else is being written; of a saved step, none is."""
        self.wait()
        if step == self.saved_step:
            return
        self._step, self._begun_at = step, self._clock()
        self._writing = self._thread.submit(self._write, step, copy().write)

    def complete(self, step: int, write: Callable[[Path], None]) -> None:
        """Waits until nothing is being written, and until what `write` adds to a step that is saved is safe too."""
        self.wait()
        if step == self.saved_step:
            self._step, self._writing = step, self._thread.submit(self._write, step, write)
            self.wait()

    def wait(self) -> None:
        """Waits until nothing is being written."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            self._seconds = writing.result()
            self.saved_step = self._step
        except (StorageFull, StorageUnavailable) as problem:
            self._log(f"Step {self._step}: {problem.message} Training goes on without it.", "WARN")

    def can_end_within(self, seconds: float) -> bool:
        """Tells whether one more, after what is being written, would be written so soon, going by the last one."""
        if self._writing is None:
            return self._seconds <= seconds
        so_far = self._clock() - self._begun_at
        longest = max(self._seconds, so_far)
        return 2 * longest - so_far <= seconds

    def _write(self, step: int, write: Callable[[Path], None]) -> float:
        began = self._clock()
        self._store.save(step, write)
        return self._clock() - began
