"""`fal-ai/flux-lora`: pictures from FLUX with up to three LoRAs."""

from __future__ import annotations

import time

from tintype.catalog.fields import pixels_of
from tintype.catalog.flux_lora import FluxLoraInput, FluxLoraOutput
from tintype.inference.flux import Wish
from tintype.job import JobContext
from tintype.jobs.images import as_image, lora_requests, published, seed_for
from tintype.jobs.residents import residents


def run(input: FluxLoraInput, context: JobContext) -> FluxLoraOutput:
    """Draws `num_images` pictures; picture k is that of seed + k alone."""
    sampler = residents(context).flux_sampler()
    for remark in sampler.use(lora_requests(input.loras, context)):
        context.log(remark, "WARN")

    seed = seed_for(input.seed, input.num_images)
    width, height = pixels_of(input.image_size)
    wish = Wish(input.prompt, width, height, input.num_inference_steps, input.guidance_scale)
    if cut := sampler.family.cut_off(input.prompt):
        context.log(f"The prompt is longer than the model reads; left out: {cut}", "WARN")

    def each_step(done: int, total: int) -> None:
        context.raise_if_cancelled()
        context.progress(done, total)

    began = time.perf_counter()
    pictures = sampler.draw(wish, [seed + number for number in range(input.num_images)], each_step)
    took = time.perf_counter() - began
    drawn = f"{pictures[0].width}x{pictures[0].height}"
    context.log(f"Drew {len(pictures)} of {drawn} (asked for: {width}x{height}) with {sampler.family.name}.")

    return FluxLoraOutput(
        images=[
            as_image(published(picture, number, input.output_format, context, inline=input.sync_mode), picture)
            for number, picture in enumerate(pictures)
        ],
        timings={"inference": took},
        seed=seed,
        has_nsfw_concepts=[False] * len(pictures),
        prompt=input.prompt,
    )
