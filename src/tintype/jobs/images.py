"""What all generating jobs do alike: seeds chosen, LoRAs asked for, images written into the answer."""

from __future__ import annotations

import base64
import functools
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import PIL.Image

from tintype.catalog import File, Image
from tintype.catalog.fields import CHANCE_SEEDS, SEEDS, is_file
from tintype.catalog.flux_lora import FluxInput, FluxLoraOutput, LoraWeight
from tintype.catalog.ideogram_custom_models import CustomModelGenerateInput
from tintype.catalog.ideogram_v4 import IdeogramInput
from tintype.errors import about_input
from tintype.files.disk import write_file
from tintype.files.urls import own_reference
from tintype.inference.images import EachStep, ImageInference
from tintype.inference.lora_cache import LoraRequest
from tintype.job import JobContext
from tintype.jobs.content_filter import filter_images
from tintype.jobs.image_file import Form, ImageRecipe, count_generated, encoded

MOST_LORA_BYTES = 4 * 1024**3
MOST_BYTES_OF_ALL_LORAS = 3 * MOST_LORA_BYTES  # of one request, which are in memory together
# Says nothing about an image: how it is handed over, and what `ImageRecipe` holds beside.
_NOT_IN_RECIPE = {"seed", "loras", "num_images", "sync_mode", "output_format", "enable_safety_checker", "model_id"}

AnyInput = FluxInput | IdeogramInput | CustomModelGenerateInput
AnyOutput = TypeVar("AnyOutput", bound=FluxLoraOutput)


@dataclass(frozen=True)
class Generated:
    """Images of a request, one for each seed. `prompt` is what the model was given; `seconds` is what it took.

    `flags` tell which of them the content filter has made black; None where it did not look.
    """

    images: list[PIL.Image.Image]
    seeds: Sequence[int]
    prompt: str
    seconds: float
    inference: ImageInference
    flags: list[bool] | None = None

    def filtered(self, context: JobContext) -> Generated:
        """Returns them as the content filter lets them pass."""
        images, flags = filter_images(self.images, context)
        return replace(self, images=images, flags=flags)


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


def published(generated: Generated, input: AnyInput, form: Form, context: JobContext) -> list[File]:
    """Makes the images files of the answer, or, with sync_mode, data URIs that are kept nowhere."""
    count_generated(generated.inference.family.weights, len(generated.images), context)
    files = []
    for number, (image, seed) in enumerate(zip(generated.images, generated.seeds, strict=True)):
        recipe = _recipe(generated, seed, input) if context.settings.recipe == form else None
        written = encoded(image, form, generated.inference.family.weights, recipe)
        files.append(_published(written, number, form, context, inline=input.sync_mode))
    return files


def answered(
    kind: type[AnyOutput], input: FluxInput | IdeogramInput, generated: Generated, context: JobContext
) -> AnyOutput:
    """Filters and publishes what was generated as the input asks."""
    generated = generated.filtered(context) if input.enable_safety_checker else generated
    files = published(generated, input, input.output_format, context)
    return kind(
        images=[as_image(file, image) for file, image in zip(files, generated.images, strict=True)],
        timings={"inference": generated.seconds},
        seed=generated.seeds[0],
        has_nsfw_concepts=generated.flags,
        prompt=generated.prompt,
    )


def as_image(file: File, image: PIL.Image.Image) -> Image:
    """Adds to a file the true size of its image."""
    return Image(**file.model_dump(), width=image.width, height=image.height)


def _published(written: bytes, number: int, form: Form, context: JobContext, *, inline: bool) -> File:
    content_type = f"image/{form}"
    if inline:
        url = f"data:{content_type};base64,{base64.b64encode(written).decode()}"
        return File(url=url, content_type=content_type, file_name=None, file_size=len(written))
    path = context.scratch / f"{number}.{'jpg' if form == 'jpeg' else 'png'}"
    write_file(path, written)
    return context.publish(path, content_type)


def _recipe(generated: Generated, seed: int, input: AnyInput) -> ImageRecipe:
    """How an image came about: URLs are left out, they may let others in."""
    urls = {name for name, declared in type(input).model_fields.items() if is_file(declared)}
    asked = input.model_dump(mode="json", exclude=_NOT_IN_RECIPE | urls)
    return ImageRecipe(generated.prompt, seed, generated.inference.loras.acting, asked)
