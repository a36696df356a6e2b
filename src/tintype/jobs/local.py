"""The context of a job that runs here and now, in a folder: for `tintype train`, `tintype generate`, and tests.

It behaves as the compute child's does: the same checkpoints, the same fetching, files published under their names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tintype.catalog import INTERNAL_SCHEME, File
from tintype.catalog.custom_models import ModelReference
from tintype.errors import Cancelled, Drained
from tintype.files import Objects, fetch_input
from tintype.files.checkpoints import ObjectCheckpoints
from tintype.files.disk import writing
from tintype.job import CheckpointStore, Level
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import Settings

_OFFERED = f"{INTERNAL_SCHEME}local/"


class LocalContext:
    """Serves a job in `folder`: scratch/, lasting/, checkpoints/ and, unless given, output/ with what was published."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        output: Path | None = None,
        resident_models: ResidentModels | None = None,
        on_log: Callable[[Level, str], None] = lambda level, message: None,
        on_progress: Callable[[int, int, dict[str, float]], None] = lambda step, total, metrics: None,
    ) -> None:
        self.request_id = folder.name
        self.model: ModelReference | None = None
        self.settings = settings
        self.device = settings.device
        self.scratch = folder / "scratch"
        self.lasting = folder / "lasting"
        self.output = output or folder / "output"
        self.cancelled = False
        self.draining = False
        self.finishing = False
        for needed in (self.scratch, self.lasting, self.output):
            needed.mkdir(parents=True, exist_ok=True)
        self.checkpoint: CheckpointStore = ObjectCheckpoints(
            Objects.open(str(folder / "objects")), "checkpoints", folder / "checkpoints"
        )
        self.resident_models: object = resident_models or ResidentModels(settings, settings.device)
        self._on_log, self._on_progress = on_log, on_progress
        self._offered: dict[str, Path] = {}

    def offer(self, path: Path) -> str:
        """Gives a URL under which this context, and no other, fetches a file or folder of this computer."""
        path = Path(os.path.abspath(path))  # "." and ".." have no name of their own; a link keeps its
        url = f"{_OFFERED}{len(self._offered)}/{path.name}"
        self._offered[url] = path
        return url

    def log(self, message: str, level: Level = "INFO") -> None:
        self._on_log(level, message)

    def progress(self, step: int, total: int, **metrics: float) -> None:
        self._on_progress(step, total, metrics)

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled()
        if self.draining:
            raise Drained()

    def is_asked_to_finish(self) -> bool:
        return self.finishing

    def check_readable(self, url: str) -> None:
        """Says nothing: who works here reads their own files."""

    def fetch(self, url: str, *, max_bytes: int | None = None) -> Path:
        if url in self._offered:
            # Another name for a person's file, so that no job ever writes beside it.
            place = Path(tempfile.mkdtemp(dir=self.scratch)) / (self._offered[url].name or "root")
            place.symlink_to(self._offered[url].resolve())
            return place
        return fetch_input(
            url,
            self.scratch,
            objects=Objects.open(str(self.scratch / "objects")),
            settings=self.settings,
            max_bytes=max_bytes,
            cancelled=self.raise_if_cancelled,
        )

    def publish(
        self, path: Path, content_type: str, file_name: str | None = None, *, lifetime: float | None = None
    ) -> File:
        kept = self.output / (file_name or path.name)
        if kept != path:
            with writing(self.output, path.stat().st_size):
                shutil.copyfile(path, kept)
        return File(
            url=kept.resolve().as_uri(), content_type=content_type, file_name=kept.name, file_size=kept.stat().st_size
        )

    def absolute(self, file: File) -> File:
        return file
