"""`ideogram/v4/trainer`: pictures of anything in, an Ideogram 4 LoRA out."""

from __future__ import annotations

from tintype.catalog.flux_lora_portrait_trainer import TrainerOutput
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER, IdeogramTrainerInput
from tintype.job import JobContext
from tintype.jobs.ideogram_training import IdeogramOrder, train_on_ideogram


def run(input: IdeogramTrainerInput, context: JobContext) -> TrainerOutput:
    """The LoRA comes in the form that was asked for; the config file names the others."""
    finished, config = train_on_ideogram(
        IdeogramOrder(
            endpoint=IDEOGRAM_TRAINER.id,
            given=input,
            title=input.default_caption or "Ideogram 4 LoRA",
            images=input.images_data_url,
            steps=input.steps,
            rank=input.rank,
            learning_rate=input.learning_rate,
            seed=input.seed,
            checkpoint_every=input.checkpoint_every,
            default_caption=input.default_caption,
            force_default_caption=input.force_default_caption,
            resolution=input.resolution,
        ),
        context,
    )
    return TrainerOutput(diffusers_lora_file=finished.results.exports[input.output_lora_format], config_file=config)
