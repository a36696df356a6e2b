"""What fal charges for an endpoint, so that a person sees what a run here would have cost there; nothing costs here.

A price stands in the declaration of its endpoint, with where and when it was read. Whoever pays other prices writes
them into a TOML file (TINTYPE_PRICES), one table for each endpoint:

    ["fal-ai/flux-lora"]
    price = 0.03
    source = "our contract"
    date = "2026-11-01"
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.errors import SettingsError

CURRENCY = "USD"
MEGAPIXEL = 1024 * 1024  # pixels: a square of 1024 is one
_OVERRIDABLE = frozenset({"price", "source", "date"})


def _one(_input: Any) -> float:
    return 1.0


@dataclass(frozen=True)
class Price:
    """Says what a unit costs in dollars. `units` counts those of a parsed input."""

    unit: str
    price: float
    source: str
    date: str
    units: Callable[[Any], float] = _one


FREE = Price("requests", 0.0, "", "")


#: What a settings file says of endpoints: fields of Price.
StatedPrices = Mapping[str, Mapping[str, Any]]


def read_prices(path: Path | None, known: Collection[str]) -> StatedPrices:
    """Reads what a settings file says of endpoints that are known. Raises SettingsError."""
    if path is None:
        return {}
    try:
        stated = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise SettingsError(f"TINTYPE_PRICES: {path} cannot be read: {problem}.") from None
    for endpoint_id in stated:
        if endpoint_id not in known:
            raise _wrong(path, f"there is no endpoint {endpoint_id!r}", f"There are: {', '.join(known)}.")
    return {endpoint_id: _checked(path, endpoint_id, table) for endpoint_id, table in stated.items()}


def _checked(path: Path, endpoint_id: str, table: Any) -> dict[str, Any]:
    example = 'Write, for each endpoint, price = 0.03, and if you like source = "…" and date = "2026-11-01".'
    if not isinstance(table, Mapping) or not table or table.keys() - _OVERRIDABLE:
        raise _wrong(path, f"{endpoint_id} does not say price, source or date, or says more", example)
    stated: dict[str, Any] = {name: str(value) for name, value in table.items()}  # TOML has dates of its own
    if "price" in table:
        price = table["price"]
        if type(price) not in (int, float) or not 0 <= price < math.inf:
            raise _wrong(path, f"the price of {endpoint_id} is {price!r}", example)
        stated["price"] = float(price)
    return stated


def _wrong(path: Path, what: str, remedy: str) -> SettingsError:
    return SettingsError(f"TINTYPE_PRICES: in {path}, {what}.", remedy=remedy)
