"""`fal-ai/flux/dev` and `fal-ai/flux-lora`: images from FLUX without LoRAs or with them."""

from __future__ import annotations

from tintype.catalog.fields import pixels_of
from tintype.catalog.flux_lora import FluxInput, FluxLoraInput, FluxLoraOutput
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.job import JobContext
from tintype.jobs.images import answered, lora_requests, seeds_for, timed
from tintype.jobs.resident_models import resident_models


def run(input: FluxInput, context: JobContext) -> FluxLoraOutput:
    """Generates `num_images` images; image k is that of seed + k alone."""
    flux = resident_models(context).inference(FluxInference)
    loras = input.loras if isinstance(input, FluxLoraInput) else []
    remarks = flux.apply_loras(lora_requests(loras, context))
    for remark in (*remarks, *flux.family.remarks):
        context.log(remark, "WARN")

    seeds = seeds_for(input.seed, input.num_images)
    width, height = pixels_of(input.image_size)
    steps = input.num_inference_steps
    if steps == FluxInput.model_fields["num_inference_steps"].default != flux.family.steps:
        steps = flux.family.steps  # the endpoint's default is that of another model
        context.log(f"{flux.family.name} generates in {steps} steps: the endpoint's default is for FLUX.1 [dev].")
    request = FluxImageRequest(input.prompt, width, height, steps, input.guidance_scale)
    if cut := flux.family.cut_off(input.prompt):
        context.log(f"The prompt is longer than the model reads; left out: {cut}", "WARN")
    images, seconds = timed(lambda each_step: flux.generate(request, seeds, each_step), context)
    size = f"{images[0].width}x{images[0].height}"
    context.log(f"Generated {len(images)} of {size} (asked for: {width}x{height}) with {flux.family.name}.")
    return answered(FluxLoraOutput, input, (images, seconds), seeds, input.prompt, context)
