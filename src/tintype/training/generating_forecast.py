"""How an image of a megapixel is generated on a card: what leaves it, and how long copies and arithmetic take.

All of it is predicted. Copies go at the rate of memory that is not pinned, and arithmetic at half of what the maker of
the chip states; no GPU has been measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tintype.models.generating_memory import GeneratingPlan, decoding_bytes, plan_of, step_bytes
from tintype.models.placement import ENCODERS, TRANSFORMER, UNCONDITIONAL
from tintype.models.registry import FamilySpec, family_spec
from tintype.training.flops import operations_of_prediction, peak_of

COPIED = 10e9  # bytes a second over PCIe 4.0 x16, which carries 25e9 where host memory is pinned
SHARE = 0.5  # of a chip's peak
_CHIPS: Mapping[float, str] = {
    12: "RTX 4070", 16: "RTX 4080", 24: "RTX 4090", 32: "RTX 5090", 48: "L40S", 80: "H100", 141: "H200",
}  # fmt: skip
_SIDE = 1024  # pixels
_MOST_TEXT = 512  # tokens of a prompt


@dataclass(frozen=True)
class GeneratingForecast:
    """Of one image in the base's usual number of steps, from a prompt that is new. Seconds are predicted."""

    plan: GeneratingPlan
    chip: str  # one with so much memory; empty where none is known
    copying: float
    computing: float | None

    @property
    def time(self) -> str:
        """Says it in a table's cell; empty where nothing is known."""
        copies = f"{self.copying:.1f} s of copies" if self.copying else ""
        if not self.plan.fits or self.computing is None:
            return copies if self.plan.fits else ""
        whole = f"{self.copying + self.computing:.0f} s on {self.chip}"
        return f"{whole}, {copies}" if copies else whole


def forecast(spec: FamilySpec, network_bytes: int, room: int, card: float) -> GeneratingForecast:
    """Predicts for a card of so many GB with `room` bytes to plan for; each network takes `network_bytes`."""
    step, decoding, operations = _costs(spec.name)
    networks = [name for name in (TRANSFORMER, UNCONDITIONAL) if name in spec.parts]
    sizes = {ENCODERS: spec.encoder_bytes, **dict.fromkeys(networks, network_bytes)}
    plan = plan_of(sizes, spec.autoencoder_bytes, step, decoding, room)
    chip = _CHIPS.get(card, "")
    peak = peak_of(chip)
    return GeneratingForecast(
        plan,
        chip,
        copying=(plan.for_prompt + plan.for_step * spec.generating_steps) / COPIED,
        computing=operations / (peak * SHARE) if peak else None,
    )


@cache
def _costs(base: str) -> tuple[int, int, float]:
    """Bytes of a step and of decoding beside the networks, and the operations of an image."""
    spec = family_spec(base)
    family, networks = spec.load().without_weights(), sum(name in spec.parts for name in (TRANSFORMER, UNCONDITIONAL))
    one = operations_of_prediction(family, (_SIDE // family.token_pixels) ** 2, _MOST_TEXT)
    operations = one * networks * spec.generating_steps
    return step_bytes(family, _SIDE, _SIDE), decoding_bytes(family, _SIDE, _SIDE), operations
