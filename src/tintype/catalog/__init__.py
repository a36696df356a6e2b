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
from tintype.catalog.flux_image_to_image import FLUX_IMAGE_TO_IMAGE
from tintype.catalog.flux_lora import FLUX_DEV, FLUX_LORA
from tintype.catalog.flux_lora_fast_training import FAST_TRAINING
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER
from tintype.catalog.ideogram_custom_models import CUSTOM_MODEL_GENERATE, CUSTOM_MODEL_TRAINER
from tintype.catalog.ideogram_v4 import IDEOGRAM, IDEOGRAM_LORA
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER
from tintype.catalog.nearest import Nearest, nearest as _nearest
from tintype.catalog.price import FREE, Price as Price, StatedPrices, read_prices as _read_prices
from tintype.errors import NotFound

ENDPOINTS: tuple[Endpoint, ...] = (
    PORTRAIT_TRAINER,
    FAST_TRAINING,
    FLUX_LORA,
    FLUX_DEV,
    FLUX_IMAGE_TO_IMAGE,
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


def nearest(name: str) -> Nearest:
    """Finds what is nearest to an id that is none, or to the path of a URL."""
    return _nearest(name, ENDPOINTS)


def get(endpoint_id: str) -> Endpoint:
    """Returns the endpoint of an id or alias. Raises NotFound, which says why there is none and names the nearest."""
    endpoint = find(endpoint_id)
    if endpoint is None:
        raise not_found(endpoint_id)
    return endpoint


def not_found(endpoint_id: str, remedy: str = "") -> NotFound:
    """Makes the error of an id that no endpoint has."""
    known = f"There are: {', '.join(endpoint.id for endpoint in ENDPOINTS)}."
    said = f"Application {endpoint_id[:200]!r} not found."
    return NotFound(said, remedy=remedy or nearest(endpoint_id).sentence or known)


def read_prices(path: Path | None) -> StatedPrices:
    """Reads a settings file of prices. Raises SettingsError."""
    return _read_prices(path, [endpoint.id for endpoint in ENDPOINTS])


def price_of(endpoint_id: str, stated: StatedPrices) -> Price:
    """Returns the price of an endpoint, as stated or else declared; nothing for one that is not offered any more."""
    endpoint = find(endpoint_id)
    return replace(FREE if endpoint is None else endpoint.price, **stated.get(endpoint_id, {}))
