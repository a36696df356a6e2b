"""`ideogram/v4/trainer`: images of anything in, an Ideogram 4 LoRA out."""

from __future__ import annotations

from tintype.catalog.flux_lora_portrait_trainer import TrainerOutput
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER, IdeogramTrainerInput
from tintype.job import JobContext
from tintype.jobs.ideogram_training import train_on_ideogram


def run(input: IdeogramTrainerInput, context: JobContext) -> TrainerOutput:
    """Trains a LoRA; it comes in the form that was asked for, and the config file names the others."""
    title = input.default_caption or "Ideogram 4 LoRA"
    trained = train_on_ideogram(IDEOGRAM_TRAINER, input, context, title=title)
    return TrainerOutput(diffusers_lora_file=trained.exports[input.output_lora_format], config_file=trained.config)
