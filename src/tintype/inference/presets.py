"""Ideogram 4's speeds and sizes, as numbers: how many steps, how strongly guided, which noise levels and pixels.

The three speeds are those published with the model; that the endpoints' names mean them is our reading of the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tintype.catalog.ideogram_custom_models import AspectRatio
from tintype.catalog.ideogram_v4 import STEPS, RenderingSpeed


@dataclass(frozen=True)
class Preset:
    """A schedule: the first steps are guided by `guidance`, the last `polished` ones by `polish`.

    mu and std are those of the normal distribution whose logistic is sigma, at 512 x 512 pixels.
    """

    steps: int
    polished: int
    mu: float
    std: float
    guidance: float = 7.0
    polish: float = 3.0

    def guidance_schedule(self, strength: float = 1.0) -> tuple[float, ...]:
        """Lists the guidance of each step; a base of another `strength` takes g for 1 + strength · (g - 1)."""
        stated = (self.guidance,) * (self.steps - self.polished) + (self.polish,) * self.polished
        return tuple(1 + strength * (scale - 1) for scale in stated)


SPEEDS: Mapping[RenderingSpeed, Preset] = {
    "TURBO": Preset(STEPS["TURBO"], polished=1, mu=0.5, std=1.75),
    "BALANCED": Preset(STEPS["BALANCED"], polished=2, mu=0.0, std=1.75),
    "QUALITY": Preset(STEPS["QUALITY"], polished=3, mu=0.0, std=1.5),
}

#: Width and height in pixels.
ASPECT_RATIOS: Mapping[AspectRatio, tuple[int, int]] = {
    "1:3": (512, 1536), "3:1": (1536, 512),
    "1:2": (704, 1408), "2:1": (1408, 704),
    "9:16": (736, 1312), "16:9": (1312, 736),
    "10:16": (800, 1280), "16:10": (1280, 800),
    "2:3": (832, 1248), "3:2": (1248, 832),
    "3:4": (864, 1152), "4:3": (1152, 864),
    "4:5": (896, 1120), "5:4": (1120, 896),
    "1:1": (1024, 1024),
}  # fmt: skip
