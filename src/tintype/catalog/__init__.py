"""All endpoints there are. To add one: write its file, and name it in ENDPOINTS."""

from __future__ import annotations

from tintype.catalog.endpoint import Endpoint, EndpointInput, EndpointOutput, Kind
from tintype.catalog.fields import INTERNAL_SCHEME, File, Image
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

__all__ = [
    "ENDPOINTS",
    "INTERNAL_SCHEME",
    "Endpoint",
    "EndpointInput",
    "EndpointOutput",
    "File",
    "Image",
    "Kind",
    "find",
]


def find(endpoint_id: str) -> Endpoint | None:
    """Returns the endpoint of an id or alias, without regard to slashes at its ends."""
    name = endpoint_id.strip("/")
    return next((endpoint for endpoint in ENDPOINTS if name in (endpoint.id, *endpoint.aliases)), None)
