"""All endpoints there are. To add one: write its file, and name it in ENDPOINTS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tintype.catalog.endpoint import (
    Endpoint as Endpoint,
    EndpointInput as EndpointInput,
    EndpointOutput as EndpointOutput,
    Kind as Kind,
)
from tintype.catalog.fields import INTERNAL_SCHEME as INTERNAL_SCHEME, File as File, Image as Image
from tintype.catalog.flux_lora import FLUX_LORA
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER
from tintype.catalog.ideogram_custom_models import CUSTOM_MODEL_GENERATE, CUSTOM_MODEL_TRAINER
from tintype.catalog.ideogram_v4 import IDEOGRAM, IDEOGRAM_LORA
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER
from tintype.catalog.price import FREE, Price as Price, StatedPrices, read_prices as _read_prices

ENDPOINTS: tuple[Endpoint, ...] = (
    PORTRAIT_TRAINER,
    FLUX_LORA,
    IDEOGRAM_TRAINER,
    IDEOGRAM,
    IDEOGRAM_LORA,
    CUSTOM_MODEL_TRAINER,
    CUSTOM_MODEL_GENERATE,
)


def find(endpoint_id: str) -> Endpoint | None:
    """Returns the endpoint of an id or alias, without regard to slashes at its ends."""
    name = endpoint_id.strip("/")
    return next((endpoint for endpoint in ENDPOINTS if name in (endpoint.id, *endpoint.aliases)), None)


def read_prices(path: Path | None) -> StatedPrices:
    """Reads a settings file of prices. Raises SettingsError."""
    return _read_prices(path, [endpoint.id for endpoint in ENDPOINTS])


def price_of(endpoint_id: str, stated: StatedPrices) -> Price:
    """Returns the price of an endpoint, as stated or else declared; nothing for one that is not offered any more."""
    endpoint = find(endpoint_id)
    return replace(FREE if endpoint is None else endpoint.price, **stated.get(endpoint_id, {}))
