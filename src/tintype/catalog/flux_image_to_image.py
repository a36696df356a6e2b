"""`fal-ai/flux-lora/image-to-image`: images from FLUX.1 [dev], with any number of LoRAs, that begin with an image."""

from __future__ import annotations

import math
from dataclasses import replace

from pydantic import Field

from tintype.catalog import operations
from tintype.catalog.fields import IMPORTANT, FileUrl, ImageSize, ImageSizeName, area_of
from tintype.catalog.flux_lora import FLUX_LORA, FluxLoraInput
from tintype.catalog.price import MEGAPIXEL, Price

MOST_AREA = 2 * MEGAPIXEL  # pixels of an image whose size nobody said


class FluxImageInput(FluxLoraInput):
    """Holds fal's published inputs and defaults."""

    image_size: ImageSizeName | ImageSize | None = Field(  # type: ignore[assignment]  # here it may be absent
        None, description="A size by name, or width and height; the image's own if absent, two megapixels at most."
    )
    image_url: FileUrl = Field(description="URL of the image to begin with.")
    strength: float = Field(
        0.85,
        ge=0.01,
        le=1,
        description="How much of the image is made anew; 1 is all of it.",
        json_schema_extra=IMPORTANT,
    )


def _area(input: FluxImageInput) -> float:
    """Tells the pixels of an image; one whose size the image decides counts as a megapixel."""
    return MEGAPIXEL if input.image_size is None else area_of(input.image_size)


def _megapixels(input: FluxImageInput) -> float:
    return float(input.num_images * math.ceil(_area(input) / MEGAPIXEL))


def _operations(input: FluxImageInput) -> float:
    steps = math.ceil(input.num_inference_steps * input.strength)
    return operations.generating("flux", _area(input), steps, input.num_images, guided=False)


FLUX_IMAGE_TO_IMAGE = replace(
    FLUX_LORA,
    id="fal-ai/flux-lora/image-to-image",
    title="Images from an image, by FLUX.1 [dev] with LoRAs",
    category="image-to-image",
    description="Makes an image anew by a prompt, with FLUX.1 [dev] and any number of LoRAs.",
    input=FluxImageInput,
    tags=("lora", "personalization", "image-to-image"),
    price=Price(
        "megapixels", 0.035, "https://fal.ai/models/fal-ai/flux-lora/image-to-image/llms.txt", "2026-11-27", _megapixels
    ),
    operations=_operations,
    examples=({"prompt": "a portrait of TOK, blue shirt, yellow background", "image_url": ""},),
)
