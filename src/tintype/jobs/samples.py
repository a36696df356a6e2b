"""Images of the subject while training goes on and when it is done, so that one sees a LoRA grow, or spoil.

They are generated as the endpoints generate, from the very files that are handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.files.disk import write_file
from tintype.inference.images import ImageInference
from tintype.inference.lora_cache import LoraRequest
from tintype.job import JobContext
from tintype.jobs.images import encoded
from tintype.jobs.resident_models import resident_models

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

    def generate(self, lora: Path, folder: Path, stem: str, context: JobContext) -> list[Path]:
        """Writes an image for each prompt, `stem`-0.png and so on; those that are there already stay.

        Raises Cancelled or Drained between two denoising steps.
        """
        places = self.places(folder, stem)
        missing = [(prompt, place) for prompt, place in zip(self.prompts, places, strict=True) if not place.exists()]
        if missing:
            inference = resident_models(context).inference(self.inference)
            inference.apply_loras([LoraRequest(lora)])
            for prompt, place in missing:
                image = inference.generate_sample(prompt, _SIZE, self.seed, context.raise_if_cancelled)
                write_file(place, encoded(image, "png"))
        return places
