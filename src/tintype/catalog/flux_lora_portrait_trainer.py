"""`fal-ai/flux-lora-portrait-trainer`: ten photos of a person in, a FLUX.1 [dev] LoRA out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from tintype.catalog import operations
from tintype.catalog.endpoint import Endpoint, EndpointInput, EndpointOutput
from tintype.catalog.fields import CONSENT, IMPORTANT, Consent, File, FileUrl, OptionalFileUrl, Seed
from tintype.catalog.price import MEGAPIXEL, Price

LEAST_BILLED_STEPS = 1000  # fal bills as many for a shorter run
MEAN_AREA = 0.6 * MEGAPIXEL  # pixels: of 512, 768 and 1024, each squared
STOPPABLE_STEPS = 500
MOST_KEPT_CHECKPOINTS = 100  # each is a LoRA on the disk, and images to generate


def _kept_within_bounds(every: int | None, info: ValidationInfo) -> int | None:
    steps = info.data.get("steps")
    if every is not None and steps is not None and steps > every * MOST_KEPT_CHECKPOINTS:
        raise ValueError(
            f"At most {MOST_KEPT_CHECKPOINTS} checkpoints are kept: {-(-steps // MOST_KEPT_CHECKPOINTS)} or more."
        )
    return every


CheckpointEvery = Annotated[int, Field(ge=1, le=40_000), AfterValidator(_kept_within_bounds)]
ArchiveFormat = Literal["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]
SamplePrompt = Annotated[str, Field(max_length=10_000)]


class PortraitTrainerInput(EndpointInput):
    """Holds the page's eight inputs, `create_masks`, and eight of our own (marked so)."""

    images_data_url: FileUrl = Field(
        description="Archive of photos of one person, 10 or more if you can. A .txt file of a photo's name holds its "
        "caption; [trigger] in a caption stands for the trigger phrase."
    )
    trigger_phrase: str | None = Field(
        None,
        max_length=200,
        description="Replaces [trigger] in captions; the whole caption of a photo without one.",
        json_schema_extra=IMPORTANT,
    )
    learning_rate: float = Field(0.00009, gt=0, le=0.01, description="Learning rate of the adapter.")
    steps: int = Field(2500, ge=1, le=10_000, description="Optimiser steps.", json_schema_extra=IMPORTANT)
    multiresolution_training: bool = Field(True, description="Train on 512, 768 and 1024 px areas of each photo.")
    subject_crop: bool = Field(True, description="Crop each photo to its subject.")
    create_masks: bool = Field(False, description="Weigh the loss to the subject rather than the background.")
    data_archive_format: ArchiveFormat | None = Field(None, description="Format of the archive; inferred when absent.")
    resume_from_checkpoint: OptionalFileUrl = Field(
        "",
        description="URL of an earlier LoRA to go on from; or of the `state` of a training that ended by itself, which "
        "then goes on as if it had not.",
    )
    rank: int = Field(16, ge=1, le=256, description="Rank of the adapter (an extension of tintype).")
    consent: Consent = Field("", description=CONSENT)
    seed: Seed = Field(0, description="Seed of the run; -1 is chance (an extension of tintype).")
    optimizer: Literal["adamw", "adamw8bit", "prodigy"] = Field(
        "adamw",
        description="What moves the adapter: adamw8bit needs a GPU and bitsandbytes; prodigy needs prodigyopt and "
        "takes learning_rate as a factor, the default meaning 1 (an extension of tintype).",
    )
    checkpoint_every: CheckpointEvery | None = Field(
        None, description="Steps between checkpoints that are kept, with samples (an extension of tintype)."
    )
    sample_prompts: list[SamplePrompt] = Field(
        default_factory=list, max_length=8, description="Images to generate at kept checkpoints and when done (ours)."
    )
    checkpoint: Literal["best", "last"] = Field(
        "best",
        description="Which LoRA is handed over: the one that scores best against photos that were held out, or that of "
        "the last step, trained on every photo (an extension of tintype).",
    )
    stop: Literal["auto", "off"] = Field(
        "auto",
        description=f"Whether a run of more than {STOPPABLE_STEPS} steps ends once its LoRA has stopped to get better "
        "(an extension of tintype).",
    )


class TrainerOutput(EndpointOutput):
    """Holds what every trainer returns."""

    diffusers_lora_file: File = Field(description="The trained LoRA in diffusers' form.")
    config_file: File = Field(description="The configuration of the run, with report, samples and other exports.")


def _operations(input: PortraitTrainerInput) -> float:
    return operations.training("flux", MEAN_AREA if input.multiresolution_training else MEGAPIXEL, input.steps)


PORTRAIT_TRAINER = Endpoint(
    id="fal-ai/flux-lora-portrait-trainer",
    title="Train a portrait LoRA on FLUX.1 [dev]",
    category="training",
    kind="training",
    description="Trains a LoRA of a person from about ten photos, for portraits with their likeness.",
    input=PortraitTrainerInput,
    output=TrainerOutput,
    job="tintype.jobs.train_portrait:run",
    base="flux",
    tags=("lora", "personalization", "portrait"),
    price=Price(
        "steps",
        0.0024,
        "three applications that call it, for want of a page",
        "2026-09-03",
        lambda input: float(max(input.steps, LEAST_BILLED_STEPS)),
    ),
    operations=_operations,
    examples=({"images_data_url": "", "learning_rate": 0.00009, "steps": 2500, "multiresolution_training": True,
               "subject_crop": True},),
)  # fmt: skip
