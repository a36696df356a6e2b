"""The record of truth: requests, attempts, leases, logs, webhooks, files, models, keys. One public face: `Queue`."""

from __future__ import annotations

from tintype.queue.queue import Queue
from tintype.queue.records import (
    ApiKey,
    Attempt,
    Beat,
    Claim,
    CustomModel,
    Delivery,
    DeliveryState,
    Ending,
    LogLine,
    NewModel,
    NewRequest,
    Outcome,
    Priority,
    Request,
    SigningKey,
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
    "Delivery",
    "DeliveryState",
    "Ending",
    "LogLine",
    "NewModel",
    "NewRequest",
    "Outcome",
    "Priority",
    "Queue",
    "Request",
    "SigningKey",
    "Status",
    "StoredFile",
    "Worker",
]
