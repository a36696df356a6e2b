"""How many floating point operations a run takes, about, told from its input alone.

Only their ratios are used: what took so long at one size tells how long another size will take. A forward pass costs
two operations for each parameter and token; a training step with a frozen base costs twice that, and once more where
activations are made again.
"""

from __future__ import annotations

from typing import Literal

Base = Literal["flux", "ideogram4"]

PARAMETERS: dict[Base, float] = {"flux": 11.9e9, "ideogram4": 9.3e9}
_TEXT_TOKENS = 512
_SIDE = 16  # pixels of a token
_STEP_PASSES = 3.0


def generating(base: Base, pixels: float, steps: int, images: int, *, guided: bool) -> float:
    """Counts those of images; a `guided` step is two passes."""
    return _pass(base, pixels) * steps * images * (2 if guided else 1)


def training(base: Base, pixels: float, steps: int) -> float:
    """Counts those of training steps on one image each."""
    return _pass(base, pixels) * steps * _STEP_PASSES


def _pass(base: Base, pixels: float) -> float:
    return 2 * PARAMETERS[base] * (pixels / _SIDE**2 + _TEXT_TOKENS)
