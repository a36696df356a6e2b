"""`ideogram/v4` and `ideogram/v4/lora`: images from Ideogram 4, with up to three LoRAs or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field

from tintype.catalog import operations
from tintype.catalog.endpoint import Endpoint, EndpointInput
from tintype.catalog.fields import IMPORTANT, ImageSize, ImageSizeName, Seed, area_of, pixels_of
from tintype.catalog.flux_lora import FluxLoraOutput, LoraWeight
from tintype.catalog.price import MEGAPIXEL, Price

MOST_LORAS = 3

RenderingSpeed = Literal["TURBO", "BALANCED", "QUALITY"]
STEPS: Mapping[RenderingSpeed, int] = {"TURBO": 12, "BALANCED": 20, "QUALITY": 48}
# A megapixel costs 0.03, 0.06 and 0.10 dollars, an expanded prompt 0.03: all of it in megapixels at TURBO.
_UNITS: Mapping[RenderingSpeed, float] = {"TURBO": 1.0, "BALANCED": 2.0, "QUALITY": 10 / 3}
_EXPANSION_UNITS = 1.0


#: What guidance leads away from: the second network; the first one, with its LoRA, on the image alone; or the first
#: one on an empty prompt.
NegativeBranch = Literal["unconditional", "conditional-image-only", "conditional-empty-prompt"]


class IdeogramImageSize(ImageSize):
    """Holds a size within other limits."""

    width: int = Field(512, ge=512, le=3840)
    height: int = Field(512, ge=512, le=3840)


class IdeogramInput(EndpointInput):
    """Holds the published inputs and defaults."""

    prompt: str = Field(max_length=10_000, description="What to generate: a sentence, or JSON in Ideogram's schema.")
    expansion_model: Literal["None", "Medium", "Large"] = Field(
        "Medium",
        description="Whether the prompt is brought into Ideogram's schema first; Medium and Large are the same here.",
    )
    enable_prompt_expansion: bool = Field(
        True, description="The older form of expansion_model: false means None.", json_schema_extra={"deprecated": True}
    )
    image_size: ImageSizeName | IdeogramImageSize = Field(
        "square_hd", description="A size by name, or width and height.", json_schema_extra=IMPORTANT
    )
    rendering_speed: RenderingSpeed = Field(
        "BALANCED", description="Fewer steps, or a better image.", json_schema_extra=IMPORTANT
    )
    acceleration: Literal["none", "low", "regular", "high"] = Field("none", description="Accepted for compatibility.")
    num_images: int = Field(1, ge=1, le=4, description="How many images to generate.", json_schema_extra=IMPORTANT)
    seed: Seed | None = Field(
        None, description="Same seed, prompt and model: same image; -1 is chance.", json_schema_extra=IMPORTANT
    )
    sync_mode: bool = Field(False, description="Return images as data URIs and keep nothing.")
    enable_safety_checker: bool = Field(
        True, description="Whether images that are not safe for work are made black; an ADMIN key may switch it off."
    )
    output_format: Literal["jpeg", "png"] = Field("jpeg", description="Format of the images.")

    @property
    def expands(self) -> bool:
        """Tells whether the prompt is to be expanded."""
        return self.enable_prompt_expansion and self.expansion_model != "None"

    @property
    def pixels(self) -> tuple[int, int]:
        """Returns the nominal (width, height)."""
        return pixels_of(self.image_size)


class IdeogramLoraInput(IdeogramInput):
    """Holds the same inputs, and LoRAs."""

    loras: list[LoraWeight] = Field(
        default_factory=list, max_length=MOST_LORAS, description="LoRAs to apply.", json_schema_extra=IMPORTANT
    )
    negative_branch: NegativeBranch | None = Field(
        None, description="What guidance leads away from while a LoRA acts (an extension of tintype)."
    )


class IdeogramOutput(FluxLoraOutput):
    """Holds the published outputs, FLUX's; `prompt` is the expanded one."""


def _units(input: IdeogramInput) -> float:
    megapixels = input.num_images * area_of(input.image_size) / MEGAPIXEL
    return megapixels * _UNITS[input.rendering_speed] + (_EXPANSION_UNITS if input.expands else 0.0)


def _operations(input: IdeogramInput) -> float:
    steps, images = STEPS[input.rendering_speed], input.num_images
    return operations.generating("ideogram4", area_of(input.image_size), steps, images, guided=True)


IDEOGRAM = Endpoint(
    id="ideogram/v4",
    title="Images from Ideogram 4",
    category="text-to-image",
    kind="inference",
    description="Generates images from a prompt with Ideogram 4.",
    input=IdeogramInput,
    output=IdeogramOutput,
    job="tintype.jobs.generate_ideogram:run",
    base="ideogram4",
    tags=("text-to-image", "typography"),
    price=Price("megapixels", 0.03, "https://fal.ai/models/ideogram/v4/llms.txt", "2026-11-26", _units),
    operations=_operations,
    examples=({"prompt": "a portrait of a person, blue shirt, yellow background", "rendering_speed": "BALANCED"},),
)

IDEOGRAM_LORA = replace(
    IDEOGRAM,
    id="ideogram/v4/lora",
    title="Images from Ideogram 4 with LoRAs",
    description="Generates images from a prompt with Ideogram 4 and up to three LoRAs.",
    input=IdeogramLoraInput,
    tags=("lora", "personalization", "text-to-image"),
)
