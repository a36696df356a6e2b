"""All endpoints there are. To add one: write its file, and name it in ENDPOINTS."""

from __future__ import annotations

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
