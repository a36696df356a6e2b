"""`ideogram/v4`, `ideogram/v4/lora` and `fal-ai/ideogram/custom-models/generate`: images from Ideogram 4."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.catalog.custom_models import unknown_model
from tintype.catalog.ideogram_custom_models import CustomModelGenerateInput, CustomModelGenerateOutput
from tintype.catalog.ideogram_v4 import IdeogramInput, IdeogramLoraInput, IdeogramOutput
from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.presets import ASPECT_RATIOS, SPEEDS
from tintype.job import JobContext
from tintype.jobs.images import Generated, answered, lora_request, lora_requests, published, seeds_for, timed
from tintype.jobs.resident_models import resident_models


def run(input: IdeogramInput, context: JobContext) -> IdeogramOutput:
    """Generates `num_images` images, with LoRAs or without; image k is that of seed + k alone."""
    loras, branch = (input.loras, input.negative_branch) if isinstance(input, IdeogramLoraInput) else ([], None)
    width, height = input.pixels
    request = IdeogramImageRequest(input.prompt, width, height, input.rendering_speed, input.expands, branch=branch)
    seeds = seeds_for(input.seed, input.num_images)
    generated = _generate(request, lora_requests(loras, context), seeds, context)
    return answered(IdeogramOutput, input, generated, context)


def run_custom_model(input: CustomModelGenerateInput, context: JobContext) -> CustomModelGenerateOutput:
    """Generates with a custom model, which may have been archived since the request was sent."""
    if context.model is None:
        raise unknown_model(input.model_id)
    lora = lora_request(context.model.usable_lora(), 1.0, ("model_id",), context)
    request = IdeogramImageRequest(
        input.prompt,
        *ASPECT_RATIOS[input.aspect_ratio],
        input.rendering_speed,
        input.expand_prompt,
        input.negative_prompt,
        input.negative_branch,
    )
    seeds = seeds_for(input.seed, input.num_images)
    generated = _generate(request, [lora], seeds, context).filtered(context)
    files = published(generated, input, "png", context)
    return CustomModelGenerateOutput(images=files, seed=seeds[0])


def _generate(
    request: IdeogramImageRequest, loras: Sequence[LoraRequest], seeds: Sequence[int], context: JobContext
) -> Generated:
    ideogram = resident_models(context).inference(IdeogramInference)
    remarks = ideogram.apply_loras(loras)
    prompts = ideogram.prepare(request, context.raise_if_cancelled)
    for remark in (*remarks, *ideogram.family.remarks, *prompts.notes):
        context.log(remark, "WARN")
    for line in prompts.lines:
        context.log(line)
    images, seconds = timed(lambda each_step: ideogram.generate(request, prompts, seeds, each_step), context)
    for line in ideogram.movements():
        context.log(line)
    context.log(
        f"Generated {len(images)} of {images[0].width}x{images[0].height} (asked for: "
        f"{request.width}x{request.height}), {request.speed} with {SPEEDS[request.speed].steps} steps, from seed "
        f"{seeds[0]}, with {ideogram.family.name}."
    )
    return Generated(images, seeds, prompts.prompt.text, seconds, ideogram)
