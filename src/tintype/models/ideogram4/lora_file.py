"""Opens a LoRA file that someone sent for Ideogram 4, and lets it near the resident network only if every part fits.

The layouts are `ideogram_lora`'s. Added here is what a stranger's file needs: nothing but safetensors is parsed, what
is not finite is refused, and PEFT is told shapes and alphas alone, never what the file says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch

from tintype.lora.layout import LoraLayout
from tintype.lora.pairs import Pair, check_sane
from tintype.lora.tensor_file import open_tensors
from tintype.models.family import FittingLora
from tintype.models.ideogram4.lora import FORMS, METADATA_KEY, Form, match, read, write

_ORIGINAL_CODE = "https://github.com/ideogram-oss/ideogram4"


def read_lora(path: Path, transformer: torch.nn.Module, *, loc: Sequence[str | int]) -> FittingLora:
    """The file, of any form of `ideogram_lora`, as the transformer's pipeline loads it. Raises UnusableAdapter at
    `loc` unless every key is known and every layer fits."""
    file = open_tensors(path, loc=loc)
    layers = read(file.load(file.entries, loc), file.header, loc=loc)
    match(layers, transformer, loc=loc)
    for name, own in layers.items():
        check_sane(name, own, loc)
    dtype = next(iter(layers.values())).down.dtype
    tensors, metadata = write(layers, "diffusers", dtype)
    return FittingLora(tensors, json.loads(metadata[METADATA_KEY]))


def _tensors(pairs: Mapping[str, Pair], form: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return write(pairs, cast(Form, form), dtype)[0]


def _read_back(path: Path) -> Mapping[str, Pair]:
    file = open_tensors(path, loc=())
    return read(file.load(file.entries, ()), file.header, loc=())


IDEOGRAM_LAYOUT = LoraLayout(
    forms=FORMS,
    tensors=_tensors,
    read=_read_back,
    facts={"modelspec.architecture": "ideogram-4/lora", "ss_base_model_version": "ideogram4"},
    implementations={form: "diffusers" if form == "diffusers" else _ORIGINAL_CODE for form in FORMS},
)
