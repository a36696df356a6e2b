"""`fal-ai/flux-lora-fast-training`: photos of anything in, a FLUX.1 [dev] LoRA out, with few choices."""

from __future__ import annotations

from pydantic import Field

from tintype.catalog import operations
from tintype.catalog.endpoint import Endpoint, EndpointInput
from tintype.catalog.fields import CONSENT, IMPORTANT, Consent, File, FileUrl
from tintype.catalog.flux_lora_portrait_trainer import MEAN_AREA, ArchiveFormat, PortraitTrainerInput, TrainerOutput
from tintype.catalog.price import Price

#: fal does not say its own; at the usual steps this goes as far as the portrait trainer does at its own.
_LEARNING_RATE = 0.000225


class FastTrainingInput(EndpointInput):
    """Holds fal's published inputs and defaults."""

    images_data_url: FileUrl = Field(
        description="Archive of photos, at least four if you can. A .txt file of a photo's name holds its caption; "
        "[trigger] in a caption stands for the trigger word."
    )
    trigger_word: str | None = Field(
        None,
        max_length=200,
        description="The whole caption of a photo without one; replaces [trigger] in captions.",
        json_schema_extra=IMPORTANT,
    )
    create_masks: bool = Field(True, description="Weigh the loss to the subject rather than the background.")
    steps: int = Field(
        1000, ge=1, le=10_000, description="Number of steps to train the LoRA on.", json_schema_extra=IMPORTANT
    )
    is_style: bool = Field(False, description="Train a style: whole photos, without masks or crops.")
    is_input_format_already_preprocessed: bool = Field(
        False, description="The photos are prepared: they are trained whole, without masks or crops."
    )
    data_archive_format: ArchiveFormat | None = Field(None, description="Format of the archive; inferred when absent.")
    consent: Consent = Field("", description=CONSENT)

    def as_portrait(self) -> PortraitTrainerInput:
        """Says the same in the inputs of the portrait trainer, which has a choice for everything."""
        is_whole = self.is_style or self.is_input_format_already_preprocessed
        return PortraitTrainerInput(
            images_data_url=self.images_data_url,
            trigger_phrase=self.trigger_word,
            learning_rate=_LEARNING_RATE,
            steps=self.steps,
            subject_crop=not is_whole,
            create_masks=self.create_masks and not is_whole,
            data_archive_format=self.data_archive_format,
            consent=self.consent,
            checkpoint="last",  # it may be a thing or a style, which nothing here recognises
        )


class FastTrainingOutput(TrainerOutput):
    """Holds what fal's returns; the dataset as it was trained is in the report that config_file names."""

    debug_preprocessed_output: File | None = None


FAST_TRAINING = Endpoint(
    id="fal-ai/flux-lora-fast-training",
    title="Train a LoRA on FLUX.1 [dev]",
    category="training",
    kind="training",
    description="Trains a LoRA of a person, a thing or a style from a few photos.",
    input=FastTrainingInput,
    output=FastTrainingOutput,
    job="tintype.jobs.train_portrait:run_fast",
    base="flux",
    tags=("lora", "personalization"),
    price=Price(
        "steps",
        0.002,
        "https://fal.ai/models/fal-ai/flux-lora-fast-training",
        "2026-11-27",
        lambda input: float(input.steps),
    ),
    operations=lambda input: operations.training("flux", MEAN_AREA, input.steps),
    examples=({"images_data_url": "", "trigger_word": "ohwx", "steps": 1000},),
)
