"""`ideogram/v4/trainer`: images of anything in, an Ideogram 4 LoRA out.

The sizes it may be trained at are named and checked here, because a wrong one should be refused before anything is
fetched; which of them a set of images can fill is told by `dataset.sizes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tintype.catalog import operations
from tintype.catalog.endpoint import Endpoint, EndpointInput
from tintype.catalog.fields import CONSENT, IMPORTANT, Consent, FileUrl, Seed
from tintype.catalog.flux_lora_portrait_trainer import CheckpointEvery, TrainerOutput
from tintype.catalog.price import MEGAPIXEL, Price
from tintype.catalog.spelling import declared_word

SIDE_STEP = 16  # pixels: a token's side
LEAST_SIDE, MOST_SIDE = 256, 2048  # pixels: what the model was trained for
MOST_ASPECT = 6

AUTO = "auto"
#: Width and height in pixels.
TRAINER_SIZES: Mapping[str, tuple[int, int]] = {
    "square": (1024, 1024),
    "landscape": (1536, 1024),
    "portrait": (1024, 1536),
    "widescreen": (1920, 1088),
    "ultrawide": (2048, 768),
    "phone_wallpaper": (1024, 1792),
    "social_banner": (1584, 400),
}
_BY_SIDES = re.compile(r"([0-9]{1,5})\s*[x\u00d7]\s*([0-9]{1,5})", re.IGNORECASE)


def size_of(resolution: str) -> tuple[int, int] | None:
    """Reads width and height of a resolution in nominal pixels; None for "auto". Raises ValueError."""
    if resolution == AUTO:
        return None
    if resolution in TRAINER_SIZES:
        return TRAINER_SIZES[resolution]
    sides = _BY_SIDES.fullmatch(resolution)
    if sides is None:
        raise ValueError(
            f"Unknown resolution. Send auto, one of {', '.join(TRAINER_SIZES)}, or WIDTHxHEIGHT such as 1280x768."
        )
    width, height = int(sides[1]), int(sides[2])
    if width % SIDE_STEP or height % SIDE_STEP:
        raise ValueError(f"Width and height have to be divisible by {SIDE_STEP}; {_near(width)}x{_near(height)} is.")
    if min(width, height) < LEAST_SIDE or max(width, height) > MOST_SIDE:
        raise ValueError(f"Width and height have to be between {LEAST_SIDE} and {MOST_SIDE} pixels.")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise ValueError(f"The longer side may be at most {MOST_ASPECT} times the shorter one.")
    return width, height


def _near(side: int) -> int:
    return min(MOST_SIDE, max(LEAST_SIDE, round(side / SIDE_STEP) * SIDE_STEP))


def _checked(given: str) -> str:
    plain = declared_word(given, (AUTO, *TRAINER_SIZES)).strip()
    size = size_of(plain)
    return plain if size is None or plain in TRAINER_SIZES else f"{size[0]}x{size[1]}"


Resolution = Annotated[str, Field(max_length=40), AfterValidator(_checked)]
Steps = Annotated[int, Field(ge=100, le=40_000)]
LearningRate = Annotated[float, Field(ge=1e-6, le=0.01)]
Caption = Annotated[str, Field(max_length=10_000)]


class IdeogramTraining(EndpointInput):
    """Holds the inputs that both trainings of Ideogram 4 share; what only one of them asks is constant in the other."""

    images_data_url: FileUrl = Field(
        description="ZIP of images. A .txt file of an image's name holds its caption: a sentence, or JSON in "
        "Ideogram's schema."
    )
    steps: Steps = Field(1000, description="Number of LoRA training steps.", json_schema_extra=IMPORTANT)
    default_caption: Caption | None = Field(
        None,
        description="Caption to use when an image has no caption file. If force_default_caption is true, this caption "
        "replaces all caption files.",
        json_schema_extra=IMPORTANT,
    )
    learning_rate: LearningRate = Field(0.0001, description="Learning rate of the adapter.")
    rank: int = Field(16, ge=1, le=256, description="Rank of the adapter (an extension of tintype).")
    consent: Consent = Field("", description=CONSENT)


class IdeogramTrainerInput(IdeogramTraining):
    """Holds the published inputs, `force_default_caption` of which the page only speaks, and our own (marked so)."""

    force_default_caption: bool = Field(False, description="Whether default_caption replaces all caption files.")
    resolution: Resolution = Field(
        AUTO,
        description="Training image size. Use auto to pick the largest common no-upscale crop from the dataset. Images "
        "are center-cropped without upscaling. Available presets: square 1024x1024, landscape 1536x1024, portrait "
        "1024x1536, widescreen 1920x1088, ultrawide 2048x768, phone_wallpaper 1024x1792, social_banner 1584x400. You "
        "can also pass a custom WIDTHxHEIGHT string when both values are divisible by 16.",
    )
    output_lora_format: Literal["fal", "comfy", "diffusers", "kohya"] = Field(
        "fal", description="Naming scheme of the weights; diffusers and kohya are extensions of tintype."
    )
    seed: Seed = Field(0, description="Seed of the run; -1 is chance (an extension of tintype).")
    checkpoint_every: CheckpointEvery | None = Field(
        None, description="Steps between checkpoints that are kept (an extension of tintype)."
    )


def operations_of(input: IdeogramTraining) -> float:
    """Counts those of a training; a size that the images decide counts as a megapixel."""
    size = size_of(getattr(input, "resolution", AUTO))
    return operations.training("ideogram4", size[0] * size[1] if size else MEGAPIXEL, input.steps)


IDEOGRAM_TRAINER = Endpoint(
    id="ideogram/v4/trainer",
    aliases=("fal-ai/ideogram-v4-trainer",),
    title="Train a LoRA on Ideogram 4",
    category="training",
    kind="training",
    description="Train custom LoRAs for personalization, styles or other use cases on top of Ideogram V4.",
    input=IdeogramTrainerInput,
    output=TrainerOutput,
    job="tintype.jobs.train_ideogram:run",
    base="ideogram4",
    tags=("lora", "personalization"),
    price=Price(
        "steps",
        0.00675,
        "https://fal.ai/models/ideogram/v4/trainer/llms.txt",
        "2026-11-26",
        lambda input: float(input.steps),
    ),
    operations=operations_of,
    examples=({"images_data_url": "", "steps": 1000, "resolution": "auto", "learning_rate": 0.0001},),
)
