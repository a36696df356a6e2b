"""`fal-ai/flux/dev`, `fal-ai/flux-lora` and its `/image-to-image`: images from FLUX, with LoRAs, from an image."""

from __future__ import annotations

import math
from dataclasses import replace

from PIL.Image import Image

from tintype.catalog.fields import pixels_of
from tintype.catalog.flux_image_to_image import MOST_AREA, FluxImageInput
from tintype.catalog.flux_lora import FluxInput, FluxLoraInput, FluxLoraOutput
from tintype.dataset.image import read_photo
from tintype.errors import about_input
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.job import JobContext
from tintype.jobs.images import Generated, answered, lora_requests, seeds_for, timed
from tintype.jobs.resident_models import resident_models

_MOST_BYTES = 256 * 1024**2  # of an image to begin with
_MOST_PIXELS = 100_000_000
_LEAST_SIDE, _MOST_SIDE = 64, 4096  # pixels


def run(input: FluxInput, context: JobContext) -> FluxLoraOutput:
    """Generates `num_images` images; image k is that of seed + k alone."""
    flux = resident_models(context).inference(FluxInference)
    loras = input.loras if isinstance(input, FluxLoraInput) else []
    remarks = flux.apply_loras(lora_requests(loras, context))
    for remark in (*remarks, *flux.family.remarks):
        context.log(remark, "WARN")

    seeds = seeds_for(input.seed, input.num_images)
    image = _begin_with(input.image_url, context) if isinstance(input, FluxImageInput) else None
    width, height = pixels_of(input.image_size) if image is None or input.image_size else _size_of(image)
    steps = input.num_inference_steps
    if steps == FluxInput.model_fields["num_inference_steps"].default != flux.family.steps:
        steps = flux.family.steps  # the endpoint's default is that of another model
        context.log(f"{flux.family.name} generates in {steps} steps: the endpoint's default is for FLUX.1 [dev].")
    request = FluxImageRequest(input.prompt, width, height, steps, input.guidance_scale)
    if isinstance(input, FluxImageInput):
        request = replace(request, image=image, strength=input.strength)
    if cut := flux.family.cut_off(input.prompt):
        context.log(f"The prompt is longer than the model reads; left out: {cut}", "WARN")
    images, seconds = timed(lambda each_step: flux.generate(request, seeds, each_step), context)
    size = f"{images[0].width}x{images[0].height}"
    for line in flux.movements():
        context.log(line)
    context.log(f"Generated {len(images)} of {size} (asked for: {width}x{height}) with {flux.family.name}.")
    return answered(FluxLoraOutput, input, Generated(images, seeds, input.prompt, seconds, flux), context)


def _begin_with(url: str, context: JobContext) -> Image:
    with about_input("image_url"):
        return read_photo(context.fetch(url, max_bytes=_MOST_BYTES), "The image", most_pixels=_MOST_PIXELS).crop()


def _size_of(image: Image) -> tuple[int, int]:
    """Returns the image's width and height, less if it is larger than the model was trained for."""
    less = min(1.0, math.sqrt(MOST_AREA / (image.width * image.height)))
    width, height = (min(max(round(side * less), _LEAST_SIDE), _MOST_SIDE) for side in image.size)
    return width, height
