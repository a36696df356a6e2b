"""Opens a LoRA file that someone sent for Ideogram 4, and lets it near the resident network only if every part fits.

The layouts are `ideogram_lora`'s. Added here is what a stranger's file needs: nothing but safetensors is parsed, what
is not finite is refused, and PEFT is told shapes and alphas alone, never what the file says of itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from tintype.families.family import FittingLora
from tintype.families.ideogram_lora import METADATA_KEY, Factors, match, read, write
from tintype.families.tensor_file import open_tensors, shown, unusable

_LARGEST_CHANGE = 1e6  # the Frobenius norm of one layer's change; no training gets near it


def read_lora(path: Path, transformer: torch.nn.Module, *, loc: Sequence[str | int]) -> FittingLora:
    """The file, of any form of `ideogram_lora`, as the transformer's pipeline loads it. Raises UnusableAdapter at
    `loc` unless every key is known and every layer fits."""
    file = open_tensors(path, loc=loc)
    layers = read(file.load(file.entries, loc), file.header, loc=loc)
    match(layers, transformer, loc=loc)
    for name, own in layers.items():
        _check_sane(name, own, loc)
    dtype = next(iter(layers.values())).down.dtype
    tensors, metadata = write(layers, "diffusers", dtype)
    return FittingLora(tensors, json.loads(metadata[METADATA_KEY]))


def _check_sane(name: str, own: Factors, loc: Sequence[str | int]) -> None:
    """A file with NaN in it would load, and draw black."""
    down, up = (float(torch.linalg.vector_norm(factor.double())) for factor in (own.down, own.up))
    bound = abs(own.alpha / own.rank) * down * up
    if not math.isfinite(bound):
        raise unusable(f"This LoRA is broken: {shown(name)} holds values that are not finite (NaN or infinite).", loc)
    if bound > _LARGEST_CHANGE:
        raise unusable(f"This LoRA is broken: the values of {shown(name)} are far too large ({bound:.0e}).", loc)
