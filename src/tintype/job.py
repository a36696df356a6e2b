"""All that a job sees of the world, so that a recipe contains no plumbing and runs without a server.

The compute child hands a job a context that speaks to its supervisor over a pipe; `tintype train` and tests hand it
one that works in a folder (`tintype.jobs.local`). The two behave alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tintype.catalog import File
from tintype.catalog.custom_models import ModelReference
from tintype.settings import Settings

Level = Literal["DEBUG", "INFO", "WARN", "ERROR"]
DRAIN_SECONDS = 20.0  # for a job to reach its next step and write a checkpoint, once this machine is being stopped


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: a folder that will not change any more, and the step it was taken at."""

    path: Path
    step: int


class CheckpointStore(Protocol):
    """Keeps the newest complete checkpoints of one request; survives the attempt that wrote them."""

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint of any attempt of this request."""
        ...

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Calls `write` with an empty folder and publishes it atomically: a kill leaves the old one or the new one.
        Of a step that is saved already, files are added and none is replaced."""
        ...


class JobContext(Protocol):
    """See the module's text. `resident_models` is an opaque `tintype.jobs.resident_models.ResidentModels`.

    `scratch` goes with the attempt. `lasting` is there again in the next one, as checkpoints are: for what is costly
    to make and whose name says what it is; another attempt may have been killed while it wrote there.
    `model` is the custom model that the request makes or uses, as it stood when the attempt began.
    """

    request_id: str
    settings: Settings
    device: str
    scratch: Path
    lasting: Path
    model: ModelReference | None
    checkpoint: CheckpointStore

    @property
    def resident_models(self) -> object: ...

    def log(self, message: str, level: Level = "INFO") -> None:
        """One line for the person who waits."""
        ...

    def progress(self, step: int, total: int, **metrics: float) -> None:
        """Where the job is; cheap enough to call every step (what is sent on is thinned by the receiver)."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raises errors.Cancelled once the person has cancelled, errors.Drained when this machine is being stopped: a
        job that checkpoints catches Drained, saves, and raises it again. Call it every step."""
        ...

    def is_asked_to_finish(self) -> bool:
        """Whether the person wants a training to end at its next step, as a success, with what it has."""
        ...

    def check_readable(self, url: str) -> None:
        """Raises FileDownloadError for a file of this server that the request may not read, or not any more. `fetch`
        asks by itself; who has kept what an earlier request read asks here."""
        ...

    def fetch(self, url: str, *, max_bytes: int | None = None) -> Path:
        """A local copy of an input file. Raises FileDownloadError or FileTooLarge."""
        ...

    def publish(
        self, path: Path, content_type: str, file_name: str | None = None, *, lifetime: float | None = None
    ) -> File:
        """Keeps a file for the answer, for so many seconds at most. Visible only once the request has succeeded."""
        ...

    def absolute(self, file: File) -> File:
        """The same file with the URL a person would open; for files that mention other files."""
        ...
