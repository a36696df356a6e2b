"""Pictures of the person while training goes on and when it is done, so that one sees a LoRA grow, or spoil.

They are drawn by the drawing endpoint's own sampler from the very files that are handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput
from tintype.jobs.context import JobContext
from tintype.jobs.pictures import encoded
from tintype.jobs.residents import residents
from tintype.sampling.sampler import Wish
from tintype.sampling.shelf import Wanted

_SIZE = (1024, 1024)  # nominal pixels


def prompts_of(order: PortraitTrainerInput) -> list[str]:
    """Those that were asked for, or one."""
    return order.sample_prompts or [f"a portrait of {order.trigger_phrase or 'a person'}"]


def draw_samples(order: PortraitTrainerInput, lora: Path, places: Sequence[Path], context: JobContext) -> list[Path]:
    """One picture for each prompt, at `places`; those that are there already are not drawn again.

    Raises Cancelled or Drained between two denoising steps.
    """
    missing = [(prompt, place) for prompt, place in zip(prompts_of(order), places, strict=True) if not place.exists()]
    if missing:
        sampler = residents(context).flux_sampler()
        sampler.use([Wanted(lora, 1.0, ("body",))])
        for prompt, place in missing:
            wish = Wish(prompt, *_SIZE)
            picture = sampler.draw(wish, [order.seed], lambda *_: context.raise_if_cancelled())[0]
            place.write_bytes(encoded(picture, "png"))
    return list(places)
