"""What generates images with a base model: one image at a time, with the LoRAs used lately kept at hand.

One at a time because image k of a request has to be the image of seed + k alone, to the last bit: a larger batch makes
the same matrix product round differently.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from PIL import Image

from tintype.inference.lora_cache import LoraCache, LoraRequest
from tintype.models.family import Family, Features

_REMEMBERED = 8  # prompts, of a few megabytes each

EachStep = Callable[[int, int], None]  # hears (steps done, steps in all) of a request, and may raise


class ImageInference(ABC):
    """A resident base model and the LoRAs used lately with it, at most `keep`."""

    family_class: ClassVar[type[Family]]

    def __init__(self, family: Any, keep: int) -> None:
        self.family = family
        self.loras = LoraCache(family, keep)
        self.lora_acts = False
        self._encoded: dict[tuple[str, tuple[tuple[str, float], ...]], Features] = {}

    def apply_loras(self, requests: Sequence[LoraRequest]) -> list[str]:
        """Makes exactly these LoRAs act from now on; returns remarks for the person who sent them.

        Raises UnusableAdapter about the one that does not fit.
        """
        remarks = self.loras.apply(requests)
        self.lora_acts = bool(requests)
        return remarks

    def encode(self, prompt: str) -> Features:
        """Encodes a prompt, or remembers it: where text encoders leave the device, they need not come back for it."""
        key = prompt, tuple(self.loras.acting.items())
        found = self._encoded.pop(key, None)
        while len(self._encoded) >= _REMEMBERED:
            del self._encoded[next(iter(self._encoded))]
        self._encoded[key] = found or self.family.encode_captions([prompt])
        return self._encoded[key]

    def movements(self) -> list[str]:
        """Says how much was copied to the device since this was last asked; nothing where it holds all networks."""
        placement = self.family.placement
        moved, placement.moved = placement.moved, 0
        if not moved:
            return []
        return [f"The device does not hold all networks at once: {moved / 2**30:.2f} GiB were copied from host memory."]

    @abstractmethod
    def generate_sample(
        self,
        prompt: str,
        size: tuple[int, int],
        seed: int,
        check: Callable[[], None] = lambda: None,
        *,
        is_draft: bool = False,
    ) -> Image.Image:
        """Generates as the endpoint does by default, from a prompt in the words of a training's captions.

        A draft takes fewer steps. `check` is called at every step and may raise.
        """
