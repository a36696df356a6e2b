"""The whole error tree, drawn in one place, because fal's clients read errors by their exact shape.

    TintypeError                    a status, a fal type, a message, and what the person can do next
    ├── InputError                  422, `detail` is a list of {loc, msg, type, url, ctx, input}
    │   ├── FileDownloadError       file_download_error
    │   ├── FileTooLarge            file_too_large              ctx: max_size
    │   ├── InvalidArchive          invalid_archive             ctx: supported_extensions
    │   ├── TooFewFiles             archive_file_count_below_minimum    ctx: min_count, provided_count
    │   ├── TooManyFiles            archive_file_count_exceeds_maximum  ctx: max_count, provided_count
    │   ├── ImageLoadError          image_load_error
    │   ├── ImageTooLarge           image_too_large             ctx: max_width, max_height
    │   ├── UnsupportedImage        unsupported_image_format    ctx: supported_formats
    │   └── UnusableAdapter         value_error
    ├── RequestError                flat {detail, error_type}, header X-Fal-Error-Type
    │   ├── BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, MethodNotAllowed 405,
    │   ├── StillInProgress 400, PayloadTooLarge 413, RangeNotSatisfiable 416, QueueFull 429, LimitReached 429,
    │   ├── Cancelled 499, IdempotencyKeyReused 422, InternalError 500, PreconditionFailed 412,
    │   ├── StorageFull 507, StorageUnavailable 503
    │   └── StartDeadlinePassed 504 (X-Fal-Request-Timeout-Type: user)
    ├── JobError                    a job ended for a reason of its own: 500, flat
    │   ├── OutOfMemory (OutOfMemoryAtLoad), NonFiniteLoss, WorkerDied, UnprovenAdapter, WeightsMissing
    ├── LeaseLost                   internal: the attempt that spoke is no longer the one that counts
    ├── Drained                     internal: the machine is being stopped; the request goes back to the queue
    ├── MemoryTaken                 internal: the other lane has the device's memory; the request waits
    └── SettingsError               a setting is unknown or does not make sense

Every message is a sentence for the person at the other end; `remedy` says what to do next and is appended to it.
Nothing outside this module defines an exception that may leave tintype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

Json = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """How a failed request is kept and answered: HTTP status, body as sent, fal's error type."""

    status: int
    body: Json
    error_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Json:
        """As stored in the queue and sent over the worker's pipe."""
        return {"status": self.status, "body": self.body, "error_type": self.error_type, "headers": dict(self.headers)}

    @classmethod
    def from_json(cls, stored: Json) -> Self:
        return cls(stored["status"], stored["body"], stored["error_type"], stored.get("headers", {}))


class TintypeError(Exception):
    """Root of everything tintype raises on purpose."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    passing: ClassVar[bool] = False  # whether the very same request may be answered better later

    def __init__(self, message: str, *, remedy: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.message = f"{message} {remedy}".strip()
        self.headers = dict(headers or {})  # what the answer has beside fal's
        super().__init__(self.message)

    def failure(self) -> Failure:
        """The answer fal's clients expect for this error."""
        body = {"detail": self.message, "message": self.message, "error_type": self.type}
        headers = {"X-Fal-Error-Type": self.type, **self._advice(), **self.headers}
        return Failure(self.status, body, self.type, headers)

    def _advice(self) -> dict[str, str]:
        """Whether to send it again. fal's pages name the header in two ways."""
        return {"X-Fal-Retryable": str(self.passing).lower(), "X-Fal-Needs-Retry": str(int(self.passing))}


class InputError(TintypeError):
    """What was sent cannot be used; one or several places, each with its own message.

    `loc` starts at "body"; list indexes are integers. `ctx` follows fal's table (docs/errors.md).
    """

    status = 422
    type = "value_error"

    def __init__(
        self,
        message: str,
        *,
        loc: Sequence[str | int] = ("body",),
        remedy: str = "",
        ctx: Json | None = None,
        given: object = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.details: list[Json] = [detail(loc=loc, message=self.message, type_=self.type, ctx=ctx, given=given)]

    @classmethod
    def from_details(cls, details: list[Json]) -> InputError:
        """Several problems at once, as schema validation finds them."""
        error = InputError(" ".join(f"{where(d['loc'])}: {d['msg']}" for d in details))
        error.details = details
        return error

    def place(self, path: Sequence[str | int]) -> None:
        """Says which input every detail that names none is about; `path` starts below "body"."""
        for entry in self.details:
            if entry["loc"] == ["body"]:
                entry["loc"] = ["body", *path]

    def failure(self) -> Failure:
        body = {"detail": self.details, "message": self.message}
        error_type = str(self.details[0]["type"]) if self.details else self.type
        return Failure(self.status, body, error_type, self._advice())


@contextmanager
def about_input(*path: str | int) -> Iterator[None]:
    """Names the input that an InputError from inside is about. Jobs use it, so that nothing below them knows a path."""
    try:
        yield
    except InputError as problem:
        problem.place(path)
        raise


def detail(*, loc: Sequence[str | int], message: str, type_: str, ctx: Json | None, given: object = None) -> Json:
    """One entry of fal's `detail` list; `ctx` and `input` only where they say something."""
    entry: Json = {"loc": list(loc), "msg": message, "type": type_, "url": f"/docs/errors#{type_}"}
    if ctx:
        entry["ctx"] = ctx
    if given is not None:
        entry["input"] = given
    return entry


def where(loc: Sequence[str | int]) -> str:
    """`["body", "loras", 0, "path"]` as a person would write it: `loras[0].path`."""
    text, parts = "", loc[1:] if loc and loc[0] == "body" else loc
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text if parts else "body"


class FileDownloadError(InputError):
    """An input URL could not be fetched."""

    type = "file_download_error"


class FileTooLarge(InputError):
    """An input file is over the limit in bytes (`ctx.max_size`)."""

    type = "file_too_large"


class InvalidArchive(InputError):
    """The dataset is not an archive that can be opened safely."""

    type = "invalid_archive"


class TooFewFiles(InputError):
    """The archive holds fewer usable pictures than the endpoint needs."""

    type = "archive_file_count_below_minimum"


class TooManyFiles(InputError):
    """The archive holds more files than the endpoint takes."""

    type = "archive_file_count_exceeds_maximum"


class ImageLoadError(InputError):
    """A picture is damaged and cannot be decoded."""

    type = "image_load_error"


class ImageTooLarge(InputError):
    """A picture has more pixels than is safe to decode."""

    type = "image_too_large"


class UnsupportedImage(InputError):
    """A picture's format is not one that is read here."""

    type = "unsupported_image_format"


class UnusableAdapter(InputError):
    """A LoRA or checkpoint that does not fit: no matching key, other base, other shapes, not safetensors."""

    type = "value_error"


class RequestError(TintypeError):
    """The request itself, not its content, cannot be served."""


class BadRequest(RequestError):
    """Malformed header, query or path."""

    status, type = 400, "bad_request"


class Unauthorized(RequestError):
    """No key, or one that is not known here."""

    status, type = 401, "unauthorized"


class Forbidden(RequestError):
    """The key is good, the thing is not allowed."""

    status, type = 403, "forbidden"


class NotFound(RequestError):
    """No such endpoint, request or file."""

    status, type = 404, "not_found"

    def failure(self) -> Failure:
        plain = super().failure()
        return Failure(plain.status, {"status": "NOT_FOUND", **plain.body}, plain.error_type, plain.headers)


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status, type = 405, "method_not_allowed"


class StillInProgress(RequestError):
    """A result was asked for before there is one (never a 2xx: clients would take it for the output)."""

    status, type = 400, "still_in_progress"


class PreconditionFailed(RequestError):
    """The file is not, or no longer, the one that the caller means."""

    status, type = 412, "precondition_failed"


class PayloadTooLarge(RequestError):
    """The body is over the limit."""

    status, type = 413, "payload_too_large"


class RangeNotSatisfiable(RequestError):
    """A byte range beyond the end of the file."""

    status, type = 416, "range_not_satisfiable"


class QueueFull(RequestError):
    """More requests wait than the caller allowed (`fal_max_queue_length`)."""

    status, type, passing = 429, "queue_full", True


class LimitReached(RequestError):
    """A person has as much of something as one person may have here (settings.Limits)."""

    status, type, passing = 429, "limit_reached", True


class IdempotencyKeyReused(RequestError):
    """An idempotency key came with another request than before. (Not 409, which the Python client sends ten times.)"""

    status, type = 422, "idempotency_key_reused"


class Cancelled(RequestError):
    """The request was cancelled by the person who sent it."""

    status, type = 499, "client_cancelled"

    def __init__(self, message: str = "Request was cancelled.", *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)


class InternalError(RequestError):
    """A fault of ours."""

    status, type = 500, "internal_error"


class StorageFull(RequestError):
    """The disk has no room for what was sent."""

    status, type = 507, "storage_full"


class StorageUnavailable(RequestError):
    """The bucket does not answer, or refuses; asking again may help."""

    status, type, passing = 503, "storage_unavailable", True


class StartDeadlinePassed(RequestError):
    """The caller's X-Fal-Request-Timeout ran out before the work began."""

    status, type, passing = 504, "request_timeout", True

    def failure(self) -> Failure:
        plain = super().failure()
        headers = {**plain.headers, "X-Fal-Request-Timeout-Type": "user"}
        return Failure(plain.status, plain.body, plain.error_type, headers)


class JobError(TintypeError):
    """The job ran and ended for a reason of its own. A final 500: clients do not repeat it (WIRE §2.4)."""

    type = "runner_server_error"


class OutOfMemory(JobError):
    """The model, at this size, does not fit the device."""


class OutOfMemoryAtLoad(OutOfMemory):
    """A device's memory ran out while a model was loaded: what else had it may be gone by the next attempt."""


class NonFiniteLoss(JobError):
    """Training diverged: the loss was not finite several times."""


class WorkerDied(JobError):
    """The compute process died several times without making progress."""


class UnprovenAdapter(JobError):
    """The exported file did not load back, or did not change the picture."""


class WeightsMissing(JobError):
    """The base model asked for is not on this machine."""


class LeaseLost(TintypeError):
    """A write named a fencing token that is no longer the current one."""


class Drained(TintypeError):
    """The process is being stopped: the attempt ends at its last checkpoint, the request waits for the next one."""

    def __init__(
        self, message: str = "Stopped for a restart; the request goes on by itself.", *, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)


class MemoryTaken(TintypeError):
    """The device's memory is in use by the other lane: the request waits until that has changed."""


class SettingsError(TintypeError):
    """A setting is unknown or does not make sense."""
