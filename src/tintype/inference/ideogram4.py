"""Draws with the resident Ideogram 4: LoRAs swapped in place, prompts brought into its schema, one picture at a time.

One at a time because picture k of a batch has to be the picture of seed + k alone, to the last bit: a larger batch
makes the same matrix product round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from tintype.catalog.ideogram_v4 import NegativeBranch, RenderingSpeed
from tintype.inference.ideogram4_steps import Order, draw
from tintype.inference.lora_cache import LoraCache, LoraRequest
from tintype.inference.negative_prompt import against
from tintype.inference.presets import SPEEDS
from tintype.inference.prompt_expansion import RULE, Prompt, Writer, prepare
from tintype.inference.prompt_writer import NAME, PromptWriter, writer_of
from tintype.models.ideogram4.model import Ideogram4Family

#: Where guidance leads away from while a LoRA acts, unless someone chooses: docs/custom-models.md has the figures.
BRANCH_WITH_LORA: NegativeBranch = "unconditional"


@dataclass(frozen=True)
class IdeogramWish:
    """What to draw. `width` and `height` are nominal pixels; `expand` brings sentences into the model's schema."""

    prompt: str
    width: int
    height: int
    speed: RenderingSpeed = "BALANCED"
    expand: bool = True
    negative_prompt: str = ""
    branch: NegativeBranch | None = None


@dataclass(frozen=True)
class Wording:
    """The words of a wish as they are drawn. `negative` is empty where guidance follows `branch`."""

    prompt: Prompt
    negative: str
    branch: NegativeBranch
    notes: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """For the log, where what was drawn has to be found again."""
        away = f"the negative prompt: {self.negative}" if self.negative else f"the branch {self.branch!r}"
        return self.prompt.line, f"Guidance leads away from {away}"


class IdeogramSampler:
    """The resident base with its shelf of LoRAs."""

    def __init__(self, family: Ideogram4Family, keep: int) -> None:
        self.family = family
        self.shelf = LoraCache(family, keep)
        self._wears = False
        self._writer: PromptWriter | None = None
        self._writer_sought = False

    def use(self, loras: Sequence[LoraRequest]) -> list[str]:
        """Draw with exactly these LoRAs from now on; returns remarks for the person who sent them.

        Raises UnusableAdapter at the one that does not fit.
        """
        remarks = self.shelf.apply(loras)
        self._wears = bool(loras)
        return remarks

    def word(self, wish: IdeogramWish, each_token: Callable[[], None] = lambda: None) -> Wording:
        """The wish's words in the model's own form. Raises InputError for JSON beyond its window."""
        size = (wish.width, wish.height)
        writer = self._writing(each_token) if wish.expand else None
        prompt = prepare(
            wish.prompt, expand=wish.expand, size=size, writer=writer, name=NAME if writer else RULE, fits=self._fits
        )
        negative = against(wish.negative_prompt, wish.prompt)
        avoided = Prompt("")
        if negative.text:
            loc = ("body", "negative_prompt")
            avoided = prepare(negative.text, expand=wish.expand, fits=self._fits, loc=loc)
        branch = wish.branch or (BRANCH_WITH_LORA if self._wears else "unconditional")
        return Wording(prompt, avoided.text, branch, (*prompt.notes, *negative.notes, *avoided.notes))

    def draw(
        self,
        wish: IdeogramWish,
        wording: Wording,
        seeds: Sequence[int],
        each_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Image.Image]:
        """One picture for each seed, at `family.true_size`. `each_step` gets (steps done, steps in all), may raise."""
        transformer = self.family.pipeline().transformer
        features = self.family.encode_captions([wording.prompt.text])
        negative = self.family.encode_captions([wording.negative]) if wording.negative else None
        preset = SPEEDS[wish.speed]
        pictures = []
        for number, seed in enumerate(seeds):
            order = Order(wish.width, wish.height, preset, [seed], wording.branch, negative)

            def tell(done: int, steps: int, before: int = number) -> None:
                each_step(before * steps + done, len(seeds) * steps)

            pictures += draw(self.family, transformer, features, order, tell)
        return pictures

    def _fits(self, text: str) -> bool:
        return self.family.count_tokens(text) <= self.family.max_sequence_length

    def _writing(self, each_token: Callable[[], None]) -> Writer | None:
        """The language model, where its weights are here."""
        if not self._writer_sought:
            self._writer, self._writer_sought = writer_of(self.family), True
        writer = self._writer
        return None if writer is None else lambda idea, wide, high: writer.write(idea, wide, high, each_token)
