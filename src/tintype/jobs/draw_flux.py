"""`fal-ai/flux-lora`: pictures from FLUX with up to three LoRAs."""

from __future__ import annotations

import base64
import io
import secrets
import time

from PIL import Image as Pictures

from tintype.catalog import Image
from tintype.catalog.fields import pixels_of
from tintype.catalog.flux_lora import FluxLoraInput, FluxLoraOutput
from tintype.jobs.context import JobContext
from tintype.jobs.residents import residents
from tintype.sampling.sampler import Wish
from tintype.sampling.shelf import Wanted

MOST_LORA_BYTES = 4 * 1024**3
_JPEG_QUALITY = 95
_LARGEST_SEED = 2**53  # JavaScript's clients lose digits above it


def run(order: FluxLoraInput, context: JobContext) -> FluxLoraOutput:
    """Draws `num_images` pictures; picture k is that of seed + k alone."""
    sampler = residents(context).flux_sampler()
    for remark in sampler.use(_fetched(order, context)):
        context.log(remark, "WARN")

    seed = secrets.randbelow(_LARGEST_SEED - order.num_images) if order.seed is None else order.seed
    width, height = pixels_of(order.image_size)
    wish = Wish(order.prompt, width, height, order.num_inference_steps, order.guidance_scale)
    if cut := sampler.family.cut_off(order.prompt):
        context.log(f"The prompt is longer than the model reads; left out: {cut}", "WARN")

    def each_step(done: int, total: int) -> None:
        context.raise_if_cancelled()
        context.progress(done, total)

    began = time.perf_counter()
    pictures = sampler.draw(wish, [seed + number for number in range(order.num_images)], each_step)
    took = time.perf_counter() - began
    drawn = f"{pictures[0].width}x{pictures[0].height}"
    context.log(f"Drew {len(pictures)} of {drawn} (asked for: {width}x{height}) with {sampler.family.name}.")

    return FluxLoraOutput(
        images=[_answered(picture, number, order, context) for number, picture in enumerate(pictures)],
        timings={"inference": took},
        seed=seed,
        has_nsfw_concepts=[False] * len(pictures),
        prompt=order.prompt,
    )


def _fetched(order: FluxLoraInput, context: JobContext) -> list[Wanted]:
    wanted = []
    for number, lora in enumerate(order.loras):
        loc = ("body", "loras", number, "path")
        wanted.append(Wanted(context.fetch(lora.path, loc=loc, max_bytes=MOST_LORA_BYTES), lora.scale, loc))
    return wanted


def _answered(picture: Pictures.Image, number: int, order: FluxLoraInput, context: JobContext) -> Image:
    content_type, written = f"image/{order.output_format}", encoded(picture, order.output_format)
    answered = Image(url="", content_type=content_type, width=picture.width, height=picture.height)
    if order.sync_mode:
        url = f"data:{content_type};base64,{base64.b64encode(written).decode()}"
        return answered.model_copy(update={"url": url, "file_size": len(written)})
    path = context.scratch / f"{number}.{'jpg' if order.output_format == 'jpeg' else 'png'}"
    path.write_bytes(written)
    file = context.publish(path, content_type)
    return answered.model_copy(update=file.model_dump(include={"url", "file_name", "file_size"}))


def encoded(picture: Pictures.Image, form: str) -> bytes:
    """The picture as JPEG (no colour subsampling: small pictures bleed) or PNG."""
    target = io.BytesIO()
    if form == "png":
        picture.save(target, "PNG")
    else:
        picture.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return target.getvalue()
