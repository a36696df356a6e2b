"""`fal-ai/ideogram/custom-models` trains a named model on 10 to 100 images, `…/generate` generates with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from tintype.catalog import operations
from tintype.catalog.custom_models import LEAST_NAME, MOST_NAME, MakesModel, UsesModel, checked_name
from tintype.catalog.endpoint import Endpoint, EndpointOutput
from tintype.catalog.fields import IMPORTANT, File, FileUrl, Seed
from tintype.catalog.ideogram_v4 import STEPS, NegativeBranch, RenderingSpeed
from tintype.catalog.ideogram_v4_trainer import AUTO, Caption, IdeogramTraining, LearningRate, Steps, operations_of
from tintype.catalog.price import MEGAPIXEL, Price

LEAST_IMAGES, MOST_IMAGES = 10, 100
# An image costs 0.03, 0.06 and 0.09 dollars: in images at TURBO.
_UNITS: Mapping[RenderingSpeed, float] = {"TURBO": 1.0, "BALANCED": 2.0, "QUALITY": 3.0}

AspectRatio = Literal[
    "1:3", "3:1", "1:2", "2:1", "9:16", "16:9", "10:16", "16:10", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "1:1",
]  # fmt: skip


class CustomModelInput(IdeogramTraining, MakesModel):
    """Holds the archive, which is the one published input, and inputs of our own (marked so)."""

    images_data_url: FileUrl = Field(
        description="ZIP of 10 to 100 images, JPEG, PNG or WebP. A .txt file of an image's name holds its caption."
    )
    name: Annotated[str, AfterValidator(checked_name)] | None = Field(
        None,
        description=f"Name of the model, {LEAST_NAME} to {MOST_NAME} characters; without one it is made from the "
        "request's id (an extension of tintype).",
        json_schema_extra=IMPORTANT,
    )
    steps: Steps = Field(1000, description="Training steps (an extension of tintype).")
    learning_rate: LearningRate = Field(0.0001, description="Learning rate of the adapter (an extension of tintype).")
    default_caption: Caption | None = Field(
        None, description="Caption of images without their own (an extension of tintype)."
    )
    # What only the other training asks.
    force_default_caption: ClassVar[bool] = False
    resolution: ClassVar[str] = AUTO
    seed: ClassVar[int] = 0
    checkpoint_every: ClassVar[int | None] = None

    @property
    def model_name(self) -> str | None:
        return self.name


class CustomModelOutput(EndpointOutput):
    """Holds what names the model from now on, and what it is made of."""

    model_id: str = Field(description="The id of the trained custom model, for /generate.")
    custom_model_uri: str = Field(description="The model's name for programs: model/<slug>/version/<n>.")
    diffusers_lora_file: File = Field(description="The trained LoRA (an extension of tintype).")
    config_file: File = Field(description="The configuration of the run, with its report (an extension of tintype).")


class CustomModelGenerateInput(UsesModel):
    """Holds the page's inputs and defaults."""

    prompt: str = Field(
        max_length=10_000,
        description="Text prompt describing the image to generate.",
        examples=["A photo in my custom style"],
    )
    aspect_ratio: AspectRatio = Field(
        "1:1", description="The aspect ratio of the generated image.", json_schema_extra=IMPORTANT
    )
    rendering_speed: RenderingSpeed = Field(
        "BALANCED", description="The rendering speed to use.", json_schema_extra=IMPORTANT
    )
    num_images: int = Field(1, ge=1, le=8, description="Number of images to generate.", json_schema_extra=IMPORTANT)
    negative_prompt: str = Field(
        "",
        max_length=10_000,
        description="Description of what to exclude from the image. Descriptions in the prompt take precedence over "
        "descriptions in the negative prompt.",
    )
    expand_prompt: bool = Field(True, description="Whether to expand the prompt with MagicPrompt functionality.")
    seed: Seed | None = Field(
        None,
        description="Seed for the random number generator; image k is generated from seed + k; -1 is chance.",
        json_schema_extra=IMPORTANT,
    )
    negative_branch: NegativeBranch | None = Field(
        None, description="What guidance leads away from without a negative prompt (an extension of tintype)."
    )
    sync_mode: bool = Field(
        False,
        description="If `True`, the media will be returned as a data URI and the output data won't be available in the "
        "request history.",
    )


class CustomModelGenerateOutput(EndpointOutput):
    """Holds the page's outputs."""

    images: list[File] = Field(
        description="The generated images.",
        examples=[[{"url": "https://v3.fal.media/files/penguin/lHdRabS80guysb8Zw1kul_image.png"}]],
    )
    seed: int = Field(description="Seed used for the random number generator.", examples=[123456])


def _operations(input: CustomModelGenerateInput) -> float:
    steps, images = STEPS[input.rendering_speed], input.num_images
    return operations.generating("ideogram4", MEGAPIXEL, steps, images, guided=True)


CUSTOM_MODEL_TRAINER = Endpoint(
    id="fal-ai/ideogram/custom-models",
    aliases=("fal-ai/ideogram/custom-models/train",),
    title="Train a custom model on Ideogram 4",
    category="training",
    kind="training",
    description="Train Ideogram on your photos, your style, your subject, your look, from a small set of reference "
    "images.",
    input=CustomModelInput,
    output=CustomModelOutput,
    job="tintype.jobs.train_custom_model:run",
    base="ideogram4",
    tags=("stylized", "personalization"),
    price=Price("runs", 40.0, "https://fal.ai/models/fal-ai/ideogram/custom-models/llms.txt", "2026-11-26"),
    operations=operations_of,
    examples=({"images_data_url": ""},),
)

CUSTOM_MODEL_GENERATE = Endpoint(
    id="fal-ai/ideogram/custom-models/generate",
    title="Images from a custom model",
    category="text-to-image",
    kind="inference",
    description="Generates images that feel consistently yours, with a custom model that you trained.",
    input=CustomModelGenerateInput,
    output=CustomModelGenerateOutput,
    job="tintype.jobs.generate_ideogram:run_custom_model",
    base="ideogram4",
    tags=("stylized", "transform"),
    price=Price(
        "images",
        0.03,
        "https://fal.ai/models/fal-ai/ideogram/custom-models/generate/llms.txt",
        "2026-11-26",
        lambda input: input.num_images * _UNITS[input.rendering_speed],
    ),
    operations=_operations,
    examples=(
        {"model_id": "", "prompt": "A photo in my custom style"},
        {
            "model_id": "",
            "prompt": "A photo in my custom style",
            "aspect_ratio": "1:1",
            "rendering_speed": "BALANCED",
            "num_images": 1,
            "expand_prompt": True,
        },
    ),
)
