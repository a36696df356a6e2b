"""Generates with the resident FLUX pipeline: diffusers' own call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageOps

from tintype.inference.images import EachStep, ImageInference
from tintype.models.family import Latents
from tintype.models.flux.model import FluxFamily
from tintype.models.generating_memory import decoding_bytes, step_bytes
from tintype.models.placement import TRANSFORMER

_DRAFT_STEPS = 12


@dataclass(frozen=True)
class FluxImageRequest:
    """What to generate. `width` and `height` are nominal pixels.

    It begins with `image`, if there is one, of which `strength` says how much is made anew.
    """

    prompt: str
    width: int
    height: int
    steps: int = 28
    guidance: float = 3.5
    image: Image.Image | None = None
    strength: float = 1.0

    @property
    def steps_run(self) -> int:
        """Counts the steps that are run, as the pipeline does; the rest would only restore the image."""
        return self.steps - int(self.steps - self.steps * self.strength)


class FluxInference(ImageInference):
    """Generates images with FLUX."""

    family_class = FluxFamily
    family: FluxFamily

    @torch.no_grad()
    def generate(
        self, request: FluxImageRequest, seeds: Sequence[int], each_step: EachStep = lambda done, total: None
    ) -> list[Image.Image]:
        """Generates an image for each seed, at `family.true_size`."""
        flux, nominal = self.family, (request.width, request.height)
        width, height = flux.true_size(*nominal)
        features = self.encode(request.prompt)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]  # the same noise on every machine
        pipeline, begins = flux.pipeline(), [dict[str, Any]() for _ in seeds]
        if request.image is not None:
            pipeline = flux.image_pipeline()
            fitted = ImageOps.fit(request.image, (width, height), Image.Resampling.LANCZOS)
            flux.placement.bring(extra=decoding_bytes(flux, *nominal))
            begins = [
                {"image": _encoded(pipeline, fitted, generator, flux.device), "strength": request.strength}
                for generator in generators
            ]
        flux.placement.bring(TRANSFORMER, extra=step_bytes(flux, *nominal))
        made = []
        for number, (begin, generator) in enumerate(zip(begins, generators, strict=True)):

            def on_step(pipe: Any, step: int, time: Any, kept: dict[str, Any], before: int = number) -> dict[str, Any]:
                each_step(before * request.steps_run + step + 1, len(seeds) * request.steps_run)
                return kept

            generated = pipeline(
                **begin,
                prompt_embeds=features.tokens,
                pooled_prompt_embeds=features.pooled,
                width=width,
                height=height,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                max_sequence_length=flux.max_sequence_length,
                generator=generator,
                callback_on_step_end=on_step,
                output_type="latent",
            )
            made.append(Latents(generated.images, height // flux.token_pixels, width // flux.token_pixels))
        return [image for latents in made for image in flux.decode_latents(latents)]

    def generate_sample(
        self,
        prompt: str,
        size: tuple[int, int],
        seed: int,
        check: Callable[[], None] = lambda: None,
        *,
        is_draft: bool = False,
    ) -> Image.Image:
        steps = min(_DRAFT_STEPS, self.family.steps) if is_draft else self.family.steps
        request = FluxImageRequest(prompt, *size, steps=steps, guidance=self.family.guidance_scale)
        return self.generate(request, [seed], lambda *_: check())[0]


def _encoded(pipeline: Any, image: Image.Image, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Encodes an image to begin with as the pipeline would, which then takes it as it is."""
    pixels = pipeline.image_processor.preprocess(image, image.height, image.width)
    encoded: torch.Tensor = pipeline._encode_vae_image(pixels.to(device, pipeline.vae.dtype), generator)
    return encoded
