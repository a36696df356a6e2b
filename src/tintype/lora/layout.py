"""How LoRA files of one base are written and read back: what differs between bases when a training ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tintype.lora.pairs import Pair


@dataclass(frozen=True)
class LoraLayout:
    """The forms of a base's LoRA files; one of them is `diffusers`.

    `tensors` gives a form's tensors for pairs by the transformer's layers, rounded to a dtype. `read` takes a file of
    any form apart again and raises UnusableAdapter for one with anything else in it. `facts` are header entries that
    name the architecture, `implementations` say whose layer names a form has.
    """

    forms: tuple[str, ...]
    tensors: Callable[[Mapping[str, Pair], str, torch.dtype], dict[str, torch.Tensor]]
    read: Callable[[Path], Mapping[str, Pair]]
    facts: Mapping[str, str]
    implementations: Mapping[str, str]
