"""Generates with the resident Ideogram 4 step by step, as its pipeline does, but without padding text to 2,048 tokens.

The arithmetic is the pipeline's: the same noise for a seed, the same schedule, the same guidance, v = g · v_c + (1 - g)
· v_n, and Euler steps. What the negative branch v_n is can be chosen, because peers disagree on it once a LoRA is
loaded. Prompts are brought into the model's schema first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from tintype.catalog.ideogram_v4 import NegativeBranch, RenderingSpeed
from tintype.errors import about_input
from tintype.inference.images import EachStep, ImageInference
from tintype.inference.presets import SPEEDS, Preset
from tintype.inference.prompt_writer import NAME, PromptWriter, writer_of
from tintype.inference.prompts import RULE, Prompt, against, prepare
from tintype.models.family import Features, Latents
from tintype.models.generating_memory import step_bytes
from tintype.models.ideogram4.captions import canonical
from tintype.models.ideogram4.model import SIGMA_MAX, SIGMA_MIN, Ideogram4Family
from tintype.models.placement import TRANSFORMER, UNCONDITIONAL

#: Where guidance leads away from while a LoRA acts, unless someone chooses: docs/custom-models.md has the figures.
BRANCH_WITH_LORA: NegativeBranch = "unconditional"
_REFERENCE_PIXELS = 512**2


@dataclass(frozen=True)
class IdeogramImageRequest:
    """What to generate. `width` and `height` are nominal pixels; `expand` brings sentences into the model's schema."""

    prompt: str
    width: int
    height: int
    speed: RenderingSpeed = "BALANCED"
    expand: bool = True
    negative_prompt: str = ""
    branch: NegativeBranch | None = None


@dataclass(frozen=True)
class PreparedPrompts:
    """The texts of a request in the model's own form. `negative` is empty where guidance follows `branch`."""

    prompt: Prompt
    negative: str
    branch: NegativeBranch
    notes: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """For the log, where what was generated has to be found again."""
        away = f"the negative prompt: {self.negative}" if self.negative else f"the branch {self.branch!r}"
        return self.prompt.line, f"Guidance leads away from {away}"


class IdeogramInference(ImageInference):
    """Generates images with Ideogram 4."""

    family_class = Ideogram4Family
    family: Ideogram4Family

    @functools.cached_property
    def _writer(self) -> PromptWriter | None:
        """The language model, where its weights are here."""
        return writer_of(self.family)

    def prepare(self, request: IdeogramImageRequest, each_token: Callable[[], None] = lambda: None) -> PreparedPrompts:
        """Brings a request's texts into the model's form. Raises InputError for JSON beyond its window."""
        size, model = (request.width, request.height), self._writer if request.expand else None
        writer = functools.partial(model.write, each_token=each_token) if model else None
        name = NAME if writer else RULE
        with about_input("prompt"):
            prompt = prepare(
                request.prompt,
                expand=request.expand,
                size=size,
                writer=writer,
                name=name,
                fits=self._fits,
                triggers=self.loras.triggers,
            )
        avoided = against(request.negative_prompt, request.prompt)
        with about_input("negative_prompt"):
            negative = prepare(avoided.text, expand=request.expand, fits=self._fits) if avoided.text else Prompt("")
        branch = request.branch or (BRANCH_WITH_LORA if self.lora_acts else "unconditional")
        return PreparedPrompts(prompt, negative.text, branch, (*prompt.notes, *avoided.notes, *negative.notes))

    def generate(
        self,
        request: IdeogramImageRequest,
        prompts: PreparedPrompts,
        seeds: Sequence[int],
        each_step: EachStep = lambda done, total: None,
    ) -> list[Image.Image]:
        """Generates an image for each seed, at `family.true_size`."""
        transformer = self.family.pipeline().transformer
        features = self.encode(prompts.prompt.text)
        avoids = prompts.negative or prompts.branch == "conditional-empty-prompt"
        negative = self.encode(prompts.negative) if avoids else None
        made = denoise(
            self.family,
            transformer,
            features,
            (request.width, request.height),
            SPEEDS[request.speed],
            seeds,
            branch=prompts.branch,
            negative=negative,
            each_step=each_step,
        )
        return [image for latents in made for image in self.family.decode_latents(latents)]

    def generate_sample(
        self,
        prompt: str,
        size: tuple[int, int],
        seed: int,
        check: Callable[[], None] = lambda: None,
        *,
        is_draft: bool = False,
    ) -> Image.Image:
        # In the words that a training would be given: a language model would ask the LoRA for something else.
        speed: RenderingSpeed = "TURBO" if is_draft else "BALANCED"
        request = IdeogramImageRequest(canonical(prompt).text, *size, speed=speed, expand=False)
        return self.generate(request, self.prepare(request, check), [seed], lambda *_: check())[0]

    def _fits(self, text: str) -> bool:
        return self.family.count_tokens(text) <= self.family.max_sequence_length


def schedule(preset: Preset, pixels: int) -> torch.Tensor:
    """Gives (steps + 1,) sigmas from noise to 0: quantiles of the logit-normal distribution at a nominal size."""
    mean = preset.mu + 0.5 * math.log(pixels / _REFERENCE_PIXELS)
    quantiles = torch.special.ndtri(torch.linspace(1, 0, preset.steps + 1, dtype=torch.float64))
    sigmas: torch.Tensor = torch.special.expit(mean + preset.std * quantiles).clamp(SIGMA_MIN, SIGMA_MAX).float()
    sigmas[-1] = 0
    return sigmas


@torch.no_grad()
def denoise(
    family: Ideogram4Family,
    transformer: Any,
    features: Features,
    size: tuple[int, int],
    preset: Preset,
    seeds: Sequence[int],
    *,
    branch: NegativeBranch = "unconditional",
    negative: Features | None = None,
    each_step: EachStep = lambda done, total: None,
) -> list[Latents]:
    """Makes latents of each seed's image, from one caption's features, at a nominal size.

    `negative` are features of what the images should not show; they take the place of the negative branch. All images
    take a step before any takes the next, each by itself: where only one network fits on the device, one comes for a
    step.
    """
    width, height = family.true_size(*size)
    rows, columns = height // family.token_pixels, width // family.token_pixels
    shape = (1, rows * columns, transformer.config.in_channels)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    made = [Latents(tokens.to(family.device), rows, columns) for tokens in noise]
    sigmas = schedule(preset, rows * columns * family.size_step**2).to(family.device)
    if negative is None and branch == "conditional-empty-prompt":
        negative = family.encode_captions([""])
    other = transformer if negative is not None or branch == "conditional-image-only" else family.load_unconditional()
    place, extra = family.placement, step_bytes(family, *size)
    for step, scale in enumerate(preset.guidance_schedule(family.guidance_strength)):
        sigma = sigmas[step].expand(1)

        def toward(each: Latents, sigma: torch.Tensor = sigma) -> torch.Tensor:
            return family.predict_velocity(transformer, each, sigma, features, 1.0).float()

        def away(each: Latents, sigma: torch.Tensor = sigma) -> torch.Tensor:
            if negative is not None:
                return family.predict_velocity(transformer, each, sigma, negative, 1.0).float()
            return family.predict_wordless(other, each, sigma).float()

        passes = [(TRANSFORMER, toward)]
        if scale != 1:
            passes.append((TRANSFORMER if other is transformer else UNCONDITIONAL, away))
        passes.sort(key=lambda one: not place.is_here(one[0]))  # what is on the device computes first
        found = {}
        for name, predict in passes:
            place.bring(name, extra=extra)
            found[predict] = [predict(each) for each in made]
        velocities = found[toward]
        if scale != 1:
            velocities = [scale * one + (1 - scale) * two for one, two in zip(velocities, found[away], strict=True)]
        for number, velocity in enumerate(velocities):
            moved = made[number].tokens + (sigmas[step + 1] - sigmas[step]) * velocity
            made[number] = Latents(moved, rows, columns)
            each_step(step * len(seeds) + number + 1, preset.steps * len(seeds))
    return made
