"""`fal-ai/ideogram/custom-models`: ten pictures and a name in, a model to draw with out."""

from __future__ import annotations

from tintype.catalog.ideogram_custom_models import (
    CUSTOM_MODEL_TRAINER,
    LEAST_IMAGES,
    MOST_IMAGES,
    CustomModelInput,
    CustomModelOutput,
)
from tintype.job import JobContext
from tintype.jobs.ideogram_training import IdeogramOrder, train_on_ideogram


def run(input: CustomModelInput, context: JobContext) -> CustomModelOutput:
    """The model exists since the request was sent; what is answered here makes it one that can be used."""
    model = context.model
    assert model is not None, "a request of this endpoint makes its model"
    finished, config = train_on_ideogram(
        IdeogramOrder(
            endpoint=CUSTOM_MODEL_TRAINER.id,
            given=input,
            title=model.name,
            images=input.images_data_url,
            steps=input.steps,
            rank=input.rank,
            learning_rate=input.learning_rate,
            default_caption=input.default_caption,
            count=(LEAST_IMAGES, MOST_IMAGES),
        ),
        context,
    )
    return CustomModelOutput(
        model_id=model.id,
        custom_model_uri=model.uri,
        diffusers_lora_file=finished.results.exports["diffusers"],
        config_file=config,
    )
