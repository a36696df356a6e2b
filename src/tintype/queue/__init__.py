"""The record of truth: requests, attempts, leases, logs, files, models, keys. Its one public face is `Queue`."""

from __future__ import annotations

from tintype.queue.queue import Queue
from tintype.queue.records import (
    ApiKey,
    Attempt,
    Beat,
    Claim,
    CustomModel,
    Ending,
    LogLine,
    NewModel,
    NewRequest,
    Outcome,
    Priority,
    Request,
    Status,
    StoredFile,
    Worker,
)

__all__ = [
    "ApiKey",
    "Attempt",
    "Beat",
    "Claim",
    "CustomModel",
    "Ending",
    "LogLine",
    "NewModel",
    "NewRequest",
    "Outcome",
    "Priority",
    "Queue",
    "Request",
    "Status",
    "StoredFile",
    "Worker",
]
