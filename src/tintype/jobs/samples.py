"""Pictures of the subject while training goes on and when it is done, so that one sees a LoRA grow, or spoil.

They are drawn by the drawing endpoints' own samplers from the very files that are handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tintype.inference.flux import Wish
from tintype.inference.lora_cache import LoraRequest
from tintype.job import JobContext
from tintype.jobs.images import encoded
from tintype.jobs.residents import residents

_SIZE = (1024, 1024)  # nominal pixels

#: Draws one picture for each prompt with the LoRA in a file.
Draw = Callable[[Path, Sequence[str], int, JobContext], list[Image.Image]]


@dataclass(frozen=True)
class Samples:
    """What is drawn: a picture for each prompt, always from the same seed."""

    prompts: Sequence[str]
    seed: int
    draw: Draw

    def generate(self, lora: Path, folder: Path, stem: str, context: JobContext) -> list[Path]:
        """Writes an image for each prompt, `stem`-0.png and so on; those that are there already stay.

        Raises Cancelled or Drained between two denoising steps.
        """
        places = [folder / f"{stem}-{number}.png" for number in range(len(self.prompts))]
        missing = [(prompt, place) for prompt, place in zip(self.prompts, places, strict=True) if not place.exists()]
        if missing:
            images = self.draw(lora, [prompt for prompt, _ in missing], self.seed, context)
            for image, (_, place) in zip(images, missing, strict=True):
                place.write_bytes(encoded(image, "png"))
        return places


def with_flux(lora: Path, prompts: Sequence[str], seed: int, context: JobContext) -> list[Image.Image]:
    """As `fal-ai/flux-lora` draws."""
    sampler = residents(context).flux_sampler()
    sampler.use([LoraRequest(lora)])
    return [
        sampler.draw(Wish(prompt, *_SIZE), [seed], lambda *_: context.raise_if_cancelled())[0] for prompt in prompts
    ]


def with_ideogram(lora: Path, prompts: Sequence[str], seed: int, context: JobContext) -> list[Image.Image]:
    """As `ideogram/v4/lora` draws."""
    from tintype.inference.ideogram4 import IdeogramWish

    sampler = residents(context).ideogram_sampler()
    sampler.use([LoraRequest(lora)])
    pictures = []
    for prompt in prompts:
        wish = IdeogramWish(prompt, *_SIZE)
        worded = sampler.word(wish, context.raise_if_cancelled)
        pictures += sampler.draw(wish, worded, [seed], lambda *_: context.raise_if_cancelled())
    return pictures
