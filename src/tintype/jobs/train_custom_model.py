"""`fal-ai/ideogram/custom-models`: ten images and a name in, a model to generate with out."""

from __future__ import annotations

from tintype.catalog.ideogram_custom_models import (
    CUSTOM_MODEL_TRAINER,
    LEAST_IMAGES,
    MOST_IMAGES,
    CustomModelInput,
    CustomModelOutput,
)
from tintype.job import JobContext
from tintype.jobs.ideogram_training import train_on_ideogram


def run(input: CustomModelInput, context: JobContext) -> CustomModelOutput:
    """Trains a LoRA for the model, which exists since the request was sent; its answer makes the model usable."""
    model = context.model
    assert model is not None, "a request of this endpoint makes its model"
    count = (LEAST_IMAGES, MOST_IMAGES)
    trained = train_on_ideogram(CUSTOM_MODEL_TRAINER, input, context, title=model.name, count=count)
    return CustomModelOutput(
        model_id=model.id,
        custom_model_uri=model.uri,
        diffusers_lora_file=trained.exports["diffusers"],
        config_file=trained.config,
    )
