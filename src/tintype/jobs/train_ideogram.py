"""`ideogram/v4/trainer`: pictures of anything in, an Ideogram 4 LoRA out."""

from __future__ import annotations

from tintype.catalog.flux_lora_portrait_trainer import TrainerOutput
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER, IdeogramTrainerInput
from tintype.job import JobContext
from tintype.jobs.ideogram_training import IdeogramOrder, train_on_ideogram


def run(order: IdeogramTrainerInput, context: JobContext) -> TrainerOutput:
    """The LoRA comes in the form that was asked for; the config file names the others."""
    finished, config = train_on_ideogram(
        IdeogramOrder(
            endpoint=IDEOGRAM_TRAINER.id,
            given=order,
            title=order.default_caption or "Ideogram 4 LoRA",
            images=order.images_data_url,
            steps=order.steps,
            rank=order.rank,
            learning_rate=order.learning_rate,
            seed=order.seed,
            checkpoint_every=order.checkpoint_every,
            default_caption=order.default_caption,
            force_default_caption=order.force_default_caption,
            resolution=order.resolution,
        ),
        context,
    )
    return TrainerOutput(diffusers_lora_file=finished.results.exports[order.output_lora_format], config_file=config)
