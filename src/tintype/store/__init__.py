"""The record of truth: requests, attempts, leases, logs, webhooks, files, models, keys. One public face: `Store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tintype.store.records import (
    ApiKey as ApiKey,
    Attempt as Attempt,
    Beat as Beat,
    Claim as Claim,
    CustomModel as CustomModel,
    DatasetPhoto as DatasetPhoto,
    Delivery as Delivery,
    DeliveryState as DeliveryState,
    Ending as Ending,
    LogLine as LogLine,
    NewModel as NewModel,
    NewRequest as NewRequest,
    Outcome as Outcome,
    Priority as Priority,
    Request as Request,
    Scope as Scope,
    SigningKey as SigningKey,
    Status as Status,
    StoredDataset as StoredDataset,
    StoredFile as StoredFile,
    Worker as Worker,
)

if TYPE_CHECKING:
    from tintype.store.store import Store as Store


def __getattr__(name: str) -> Any:
    """Imports SQLAlchemy with `Store`, when somebody needs it: the records alone are of use to the command line."""
    if name == "Store":
        from tintype.store.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
