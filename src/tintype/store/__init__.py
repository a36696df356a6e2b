"""The record of truth: requests, attempts, leases, logs, webhooks, files, models, keys. One public face: `Store`."""

from __future__ import annotations

from tintype.store.records import (
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
from tintype.store.store import Store

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
    "Request",
    "SigningKey",
    "Status",
    "Store",
    "StoredFile",
    "Worker",
]
