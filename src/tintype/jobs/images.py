"""What all generating jobs do alike: seeds chosen, LoRAs asked for, images written into the answer."""

from __future__ import annotations

import base64
import functools
import io
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import PIL.Image

from tintype.catalog import File, Image
from tintype.catalog.fields import CHANCE_SEEDS, SEEDS
from tintype.catalog.flux_lora import FluxInput, FluxLoraOutput, LoraWeight
from tintype.catalog.ideogram_v4 import IdeogramInput
from tintype.errors import about_input
from tintype.files.disk import write_file
from tintype.files.urls import own_reference
from tintype.inference.images import EachStep
from tintype.inference.lora_cache import LoraRequest
from tintype.job import JobContext

MOST_LORA_BYTES = 4 * 1024**3
MOST_BYTES_OF_ALL_LORAS = 3 * MOST_LORA_BYTES  # of one request, which are in memory together
_JPEG_QUALITY = 95

Form = Literal["jpeg", "png"]
AnyOutput = TypeVar("AnyOutput", bound=FluxLoraOutput)


def seeds_for(given: int | None, count: int) -> list[int]:
    """Chooses the seeds of `count` images: the given one, or one by chance, and those after it."""
    first = secrets.randbelow(CHANCE_SEEDS - count) if given is None else given
    return [(first + number) % SEEDS for number in range(count)]


def timed(
    generate: Callable[[EachStep], list[PIL.Image.Image]], context: JobContext
) -> tuple[list[PIL.Image.Image], float]:
    """Generates images, telling the context of every step, and measures the seconds that it took."""

    def each_step(done: int, total: int) -> None:
        context.raise_if_cancelled()
        context.progress(done, total)

    began = time.perf_counter()
    images = generate(each_step)
    return images, time.perf_counter() - began


def lora_requests(loras: Sequence[LoraWeight], context: JobContext) -> list[LoraRequest]:
    """Asks for the LoRAs of an input, each knowing where it was named."""
    most = min(MOST_LORA_BYTES, MOST_BYTES_OF_ALL_LORAS // max(1, len(loras)))
    return [lora_request(lora.path, lora.scale, ("loras", n, "path"), context, most) for n, lora in enumerate(loras)]


def lora_request(
    url: str, scale: float, about: tuple[str | int, ...], context: JobContext, max_bytes: int = MOST_LORA_BYTES
) -> LoraRequest:
    """Asks for one LoRA, fetched only if it is not loaded: files of this server never change, those of others may."""
    with about_input(*about):
        context.check_readable(url)  # also where it is loaded already
    fetch = functools.partial(context.fetch, url, max_bytes=max_bytes)
    return LoraRequest(fetch, scale, about, origin=url if own_reference(url) else "")


def published(image: PIL.Image.Image, number: int, form: Form, context: JobContext, *, inline: bool) -> File:
    """Makes an image a file of the answer, or `inline` a data URI that is kept nowhere."""
    content_type, written = f"image/{form}", encoded(image, form)
    if inline:
        url = f"data:{content_type};base64,{base64.b64encode(written).decode()}"
        return File(url=url, content_type=content_type, file_name=None, file_size=len(written))
    path = context.scratch / f"{number}.{'jpg' if form == 'jpeg' else 'png'}"
    write_file(path, written)
    return context.publish(path, content_type)


def as_image(file: File, image: PIL.Image.Image) -> Image:
    """Adds to a file the true size of its image."""
    return Image(**file.model_dump(), width=image.width, height=image.height)


def answered(
    kind: type[AnyOutput],
    input: FluxInput | IdeogramInput,
    generated: tuple[list[PIL.Image.Image], float],
    seeds: Sequence[int],
    prompt: str,
    context: JobContext,
) -> AnyOutput:
    """Publishes what was `generated` in some seconds as the input asks; `prompt` is what the model was given."""
    images, seconds = generated
    return kind(
        images=[
            as_image(published(image, number, input.output_format, context, inline=input.sync_mode), image)
            for number, image in enumerate(images)
        ],
        timings={"inference": seconds},
        seed=seeds[0],
        has_nsfw_concepts=[False] * len(images),
        prompt=prompt,
    )


def encoded(image: PIL.Image.Image, form: Form) -> bytes:
    """Encodes an image as JPEG (no colour subsampling: small images bleed) or PNG."""
    target = io.BytesIO()
    if form == "png":
        image.save(target, "PNG")
    else:
        image.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return target.getvalue()
