"""`ideogram/v4`, `ideogram/v4/lora` and `fal-ai/ideogram/custom-models/generate`: pictures from Ideogram 4."""

from __future__ import annotations

import time
from collections.abc import Sequence

from PIL import Image

from tintype.catalog.custom_models import unknown_model
from tintype.catalog.ideogram_custom_models import CustomModelGenerateInput, CustomModelGenerateOutput
from tintype.catalog.ideogram_v4 import IdeogramInput, IdeogramLoraInput, IdeogramOutput
from tintype.inference.ideogram4 import IdeogramSampler, IdeogramWish, Wording
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.presets import ASPECT_RATIOS, SPEEDS
from tintype.job import JobContext
from tintype.jobs.images import as_image, lora_request, lora_requests, published, seed_for
from tintype.jobs.residents import residents


def run(input: IdeogramInput, context: JobContext) -> IdeogramOutput:
    """Draws `num_images` pictures, with LoRAs or without; picture k is that of seed + k alone."""
    sampler = residents(context).ideogram_sampler()
    loras, branch = (input.loras, input.negative_branch) if isinstance(input, IdeogramLoraInput) else ([], None)
    _wear(sampler, lora_requests(loras, context), context)
    width, height = input.pixels
    wish = IdeogramWish(input.prompt, width, height, input.rendering_speed, input.expands, branch=branch)
    wording = _worded(sampler, wish, context)
    seed = seed_for(input.seed, input.num_images)
    pictures, took = _drawn(sampler, wish, wording, range(seed, seed + input.num_images), context)
    return IdeogramOutput(
        images=[
            as_image(published(picture, number, input.output_format, context, inline=input.sync_mode), picture)
            for number, picture in enumerate(pictures)
        ],
        timings={"inference": took},
        seed=seed,
        has_nsfw_concepts=[False] * len(pictures),
        prompt=wording.prompt.text,
    )


def run_custom_model(input: CustomModelGenerateInput, context: JobContext) -> CustomModelGenerateOutput:
    """Draws with a custom model, which may have been archived since the request was sent."""
    if context.model is None:
        raise unknown_model(input.model_id)
    lora = lora_request(context.model.usable_lora(), 1.0, ("model_id",), context)
    sampler = residents(context).ideogram_sampler()
    _wear(sampler, [lora], context)
    width, height = ASPECT_RATIOS[input.aspect_ratio]
    wish = IdeogramWish(
        input.prompt,
        width,
        height,
        input.rendering_speed,
        input.expand_prompt,
        input.negative_prompt,
        input.negative_branch,
    )
    wording = _worded(sampler, wish, context)
    seed = seed_for(input.seed, input.num_images)
    pictures, _ = _drawn(sampler, wish, wording, range(seed, seed + input.num_images), context)
    return CustomModelGenerateOutput(
        images=[
            published(picture, number, "png", context, inline=input.sync_mode)
            for number, picture in enumerate(pictures)
        ],
        seed=seed,
    )


def _wear(sampler: IdeogramSampler, loras: Sequence[LoraRequest], context: JobContext) -> None:
    for remark in (*sampler.use(loras), *sampler.family.remarks):
        context.log(remark, "WARN")


def _worded(sampler: IdeogramSampler, wish: IdeogramWish, context: JobContext) -> Wording:
    wording = sampler.word(wish, context.raise_if_cancelled)
    for note in wording.notes:
        context.log(note, "WARN")
    for line in wording.lines:
        context.log(line)
    return wording


def _drawn(
    sampler: IdeogramSampler, wish: IdeogramWish, wording: Wording, seeds: Sequence[int], context: JobContext
) -> tuple[list[Image.Image], float]:
    """The pictures and the seconds they took."""

    def each_step(done: int, total: int) -> None:
        context.raise_if_cancelled()
        context.progress(done, total)

    began = time.perf_counter()
    pictures = sampler.draw(wish, wording, seeds, each_step)
    took = time.perf_counter() - began
    context.log(
        f"Drew {len(pictures)} of {pictures[0].width}x{pictures[0].height} (asked for: {wish.width}x{wish.height}), "
        f"{wish.speed} with {SPEEDS[wish.speed].steps} steps, from seed {seeds[0]}, with {sampler.family.name}."
    )
    return pictures, took
