"""What a supervisor and its compute child say to each other: one JSON object a line, over the child's stdin and stdout.

The child gives its original stdout away before anything is imported, so that a library's print cannot break the line.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from tintype.errors import Json


class Run(TypedDict):
    """Supervisor to child: do this job. Files it publishes stay unseen until the result names them."""

    say: Literal["run"]
    request_id: str
    token: int
    attempt: int
    endpoint_id: str
    input: Json
    origin: str
    is_rehearsal: NotRequired[bool]  # for the miniatures
    model: NotRequired[Json]  # a ModelReference, where the request makes or uses a custom model


class Cancel(TypedDict):
    """Supervisor to child: stop at the next step."""

    say: Literal["cancel"]
    request_id: str


class Finish(TypedDict):
    """Supervisor to child: end the training at its next step, well, with what it has."""

    say: Literal["finish"]
    request_id: str


class FileAnswer(TypedDict):
    """Supervisor to child: whether the file may be read that AskFile of this number was about."""

    say: Literal["file"]
    number: int
    readable: bool


class Pause(TypedDict):
    """Supervisor to child: checkpoint this request and give it back; the child stays."""

    say: Literal["pause"]
    request_id: str


class Unload(TypedDict):
    """Supervisor to an idle child: let go of all models. Answered by HoldsMemory."""

    say: Literal["unload"]


class MemoryAnswer(TypedDict):
    """Supervisor to child: how many bytes of the device it may hold in all, None where nobody counts them. Where it was
    not granted, `reason` says what has them."""

    say: Literal["memory"]
    number: int
    granted: bool
    available: int | None
    reason: str


class Stop(TypedDict):
    """Supervisor to child: checkpoint what runs, then exit (drain). A closed pipe means: exit at once."""

    say: Literal["stop"]


class Ready(TypedDict):
    """Child to supervisor: imports are done, jobs can come."""

    say: Literal["ready"]
    device: str


class AskFile(TypedDict):
    """Child to supervisor: may the job read, now, the file of a reference? Answered by FileAnswer."""

    say: Literal["ask_file"]
    request_id: str
    number: int
    reference: str


class AskMemory(TypedDict):
    """Child to supervisor: may it hold up to `most` bytes of the device in all, at the least `least`? Answered by
    MemoryAnswer. `what` takes them."""

    say: Literal["ask_memory"]
    request_id: str
    number: int
    most: int
    least: int
    what: str


class HoldsMemory(TypedDict):
    """Child to supervisor: the bytes of the device that it holds between two jobs; `unloaded`: as told."""

    say: Literal["holds_memory"]
    bytes: int
    unloaded: bool


class Log(TypedDict):
    """Child to supervisor: a line for the person who waits."""

    say: Literal["log"]
    request_id: str
    at: float
    level: str
    message: str


class Progress(TypedDict):
    """Child to supervisor: where the job is."""

    say: Literal["progress"]
    request_id: str
    step: int
    total: int
    metrics: dict[str, float]


class CheckpointSaved(TypedDict):
    """Child to supervisor: a complete checkpoint is on disk."""

    say: Literal["checkpoint"]
    request_id: str
    step: int


class Done(TypedDict):
    """Child to supervisor: the output, and the files it names ({id, file_name, content_type, size})."""

    say: Literal["done"]
    request_id: str
    output: Json
    files: list[dict[str, Any]]


class Failed(TypedDict):
    """Child to supervisor: the job raised; `failure` is errors.Failure as JSON."""

    say: Literal["failed"]
    request_id: str
    failure: Json


class Drained(TypedDict):
    """Child to supervisor: stopped for a drain, at its last checkpoint; the request goes back to the queue."""

    say: Literal["drained"]
    request_id: str


class Waits(TypedDict):
    """Child to supervisor: the job ended because it was refused memory; the request goes back to the queue."""

    say: Literal["waits"]
    request_id: str


class LackedMemory(TypedDict):
    """Child to supervisor: memory ran out while a model was loaded; all were let go, and the request goes back."""

    say: Literal["lacked_memory"]
    request_id: str
    message: str


ToChild = Run | Cancel | Finish | FileAnswer | MemoryAnswer | Pause | Unload | Stop
FromChild = (
    Ready | AskFile | AskMemory | HoldsMemory | Log | Progress | CheckpointSaved | Done | Failed | Drained | Waits
    | LackedMemory
)  # fmt: skip
