"""Images of the subject while training goes on and when it is done, so that one sees a LoRA grow, or spoil.

They are generated as the endpoints generate, from the very files that are handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.errors import OutOfMemory
from tintype.files.disk import write_file
from tintype.inference.images import ImageInference
from tintype.inference.lora_cache import LoraRequest
from tintype.job import JobContext
from tintype.jobs.content_filter import filter_images
from tintype.jobs.image_file import count_generated, encoded
from tintype.jobs.resident_models import resident_models
from tintype.models.family import Family
from tintype.models.generating_memory import generating_demand, plan_generating
from tintype.training.memory_plan import gib

_SIZE = (1024, 1024)  # nominal pixels


@dataclass(frozen=True)
class Samples:
    """What is generated: an image for each prompt, always from the same seed."""

    prompts: Sequence[str]
    seed: int
    inference: type[ImageInference]

    def places(self, folder: Path, stem: str) -> list[Path]:
        """Names the images' files."""
        return [folder / f"{stem}-{number}.png" for number in range(len(self.prompts))]

    def lacking(self, family: Family, context: JobContext) -> str:
        """Says how much memory is lacking to generate; empty where it fits, if need be with one network at a time."""
        resident_models(context).reserve(generating_demand(family, *_SIZE)[0], 0, "samples")
        plan, room = plan_generating(family, *_SIZE), family.placement.room()
        return "" if plan.fits else f"Generating takes {gib(plan.needed)}, and {gib(room)} can be had."

    def generate(self, lora: Path, folder: Path, stem: str, context: JobContext) -> list[Path]:
        """Writes an image for each prompt, `stem`-0.png and so on; those that are there already stay.

        Raises Cancelled or Drained between two denoising steps, and OutOfMemory before any model is loaded.
        """
        places = self.places(folder, stem)
        missing = [(prompt, place) for prompt, place in zip(self.prompts, places, strict=True) if not place.exists()]
        if missing:
            models = resident_models(context)
            if lacking := self.lacking(models.family(self.inference.family_class), context):
                raise OutOfMemory(lacking, remedy="Free memory on the device, or leave out checkpoint_every.")
            inference = models.inference(self.inference)
            inference.apply_loras([LoraRequest(lora)])
            for prompt, place in missing:
                drawn = inference.generate_sample(prompt, _SIZE, self.seed, context.raise_if_cancelled)
                count_generated(inference.family.weights, 1, context)
                [image], _ = filter_images([drawn], context)
                write_file(place, encoded(image, "png", inference.family.weights))
        return places
