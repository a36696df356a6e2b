"""`fal-ai/flux/dev` and `fal-ai/flux-lora`: images from FLUX.1 [dev], with any number of LoRAs, or none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from tintype.catalog import operations
from tintype.catalog.endpoint import Endpoint, EndpointInput, EndpointOutput
from tintype.catalog.fields import IMPORTANT, FileUrl, Image, ImageSize, ImageSizeName, Seed, area_of
from tintype.catalog.price import MEGAPIXEL, Price

MOST_LORAS = 100  # fal says "any number"; every one of them is fetched and held in memory


class LoraWeight(BaseModel):
    """Names one LoRA and how strongly it applies."""

    path: FileUrl = Field(description="URL of a LoRA in safetensors form.")
    scale: float = Field(1.0, ge=0, le=4, allow_inf_nan=False, description="How strongly it is applied.")


class FluxInput(EndpointInput):
    """Holds fal's published inputs and defaults."""

    prompt: str = Field(max_length=10_000, description="What to generate.")
    image_size: ImageSizeName | ImageSize = Field(
        "landscape_4_3", description="A size by name, or width and height.", json_schema_extra=IMPORTANT
    )
    num_inference_steps: int = Field(28, ge=1, le=50, description="Steps of the sampler.")
    seed: Seed | None = Field(
        None, description="Same seed, prompt and model: same image; -1 is chance.", json_schema_extra=IMPORTANT
    )
    guidance_scale: float = Field(3.5, ge=0, le=35, description="How closely to follow the prompt.")
    sync_mode: bool = Field(False, description="Return images as data URIs and keep nothing.")
    num_images: int = Field(1, ge=1, le=4, description="How many images to generate.", json_schema_extra=IMPORTANT)
    enable_safety_checker: bool = Field(
        True, description="Whether images that are not safe for work are made black; an ADMIN key may switch it off."
    )
    output_format: Literal["jpeg", "png"] = Field("jpeg", description="Format of the images.")
    acceleration: Literal["none", "regular", "high"] = Field("none", description="Accepted for compatibility.")


class FluxLoraInput(FluxInput):
    """Holds the same inputs, and LoRAs."""

    loras: list[LoraWeight] = Field(
        default_factory=list, max_length=MOST_LORAS, description="LoRAs to apply.", json_schema_extra=IMPORTANT
    )


class FluxLoraOutput(EndpointOutput):
    """Holds fal's published outputs; `has_nsfw_concepts` is left out where no content filter looked."""

    images: list[Image]
    timings: dict[str, float]
    seed: int
    has_nsfw_concepts: list[bool] | SkipJsonSchema[None] = Field(
        default_factory=lambda: None,  # a plain default would be in the schema, where there is no null
        exclude_if=lambda flags: flags is None,
    )
    prompt: str


def _megapixels(input: FluxInput) -> float:
    return float(input.num_images * math.ceil(area_of(input.image_size) / MEGAPIXEL))


def _operations(input: FluxInput) -> float:
    steps, images = input.num_inference_steps, input.num_images
    return operations.generating("flux", area_of(input.image_size), steps, images, guided=False)


FLUX_LORA = Endpoint(
    id="fal-ai/flux-lora",
    title="Images from FLUX.1 [dev] with LoRAs",
    category="text-to-image",
    kind="inference",
    description="Generates images from a prompt with FLUX.1 [dev] and any number of LoRAs.",
    input=FluxLoraInput,
    output=FluxLoraOutput,
    job="tintype.jobs.generate_flux:run",
    base="flux",
    tags=("lora", "personalization", "text-to-image"),
    price=Price("megapixels", 0.035, "https://fal.ai/models/fal-ai/flux-lora", "2026-11-26", _megapixels),
    operations=_operations,
    examples=({"prompt": "a portrait of TOK, blue shirt, yellow background, smiling", "image_size": "square_hd"},),
)

FLUX_DEV = replace(
    FLUX_LORA,
    id="fal-ai/flux/dev",
    aliases=("fal-ai/flux-1/dev",),
    title="Images from FLUX.1 [dev]",
    description="Generates images from a prompt with FLUX.1 [dev].",
    input=FluxInput,
    tags=("text-to-image",),
    price=Price("megapixels", 0.025, "https://fal.ai/models/fal-ai/flux-1/dev/llms.txt", "2026-11-27", _megapixels),
)
