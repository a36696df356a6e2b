"""The record of truth: requests, attempts, leases, logs, webhooks, files, models, keys. One public face: `Store`."""

from __future__ import annotations

from tintype.store.records import (
    ApiKey as ApiKey,
    Attempt as Attempt,
    Beat as Beat,
    Claim as Claim,
    CustomModel as CustomModel,
    Delivery as Delivery,
    DeliveryState as DeliveryState,
    Ending as Ending,
    LogLine as LogLine,
    NewModel as NewModel,
    NewRequest as NewRequest,
    Outcome as Outcome,
    Priority as Priority,
    Request as Request,
    SigningKey as SigningKey,
    Status as Status,
    StoredFile as StoredFile,
    Worker as Worker,
)
from tintype.store.store import Store as Store
