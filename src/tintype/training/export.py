"""Hands a trained LoRA over in every form of its base model, each file read back before anyone is given it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tintype.errors import UnprovenAdapter, UnusableAdapter
from tintype.lora.keys import LoraKeys
from tintype.lora.lora import TRIGGER, Lora
from tintype.lora.pairs import difference
from tintype.lora.read import read_lora
from tintype.lora.write import write_lora

# Writing rounds once, before it compares: what is read back must be the same but for the arithmetic of comparing.
_TOLERANCE = 1e-5
_KOHYA_SETTINGS = {
    "learning_rate": "ss_learning_rate",
    "batch_size": "ss_total_batch_size",
    "seed": "ss_seed",
    "optimizer": "ss_optimizer",
    "warmup_steps": "ss_lr_warmup_steps",
    "guidance": "ss_guidance_scale",
    "pictures": "ss_num_train_images",
}


def export_all(
    lora: Lora, keys: LoraKeys, folder: Path, *, dtype: torch.dtype, header: Mapping[str, str]
) -> dict[str, Path]:
    """Writes every form: `lora.safetensors` for diffusers, `lora-kohya.safetensors` and so on for the others.

    Raises UnprovenAdapter if one of them, read back, is not what was written.
    """
    written = {}
    for form in (form.name for form in keys.forms):
        path = folder / ("lora.safetensors" if form == "diffusers" else f"lora-{form}.safetensors")
        written[form] = write_lora(lora, keys, path, form=form, dtype=dtype, header=header)
        check_written(path, lora, keys, dtype=dtype)
    return written


def check_written(path: Path, lora: Lora, keys: LoraKeys, *, dtype: torch.dtype) -> None:
    """Raises UnprovenAdapter unless the file, read back, changes every layer as this LoRA does once rounded."""
    try:
        found = read_lora(path, keys)
    except UnusableAdapter as problem:
        raise UnprovenAdapter(f"The exported {path.name} cannot be read back: {problem.message}") from None
    if found.text_keys or found.shifts or found.pairs.keys() - lora.pairs.keys():
        raise UnprovenAdapter(f"The exported {path.name} holds more than was trained.")
    for name, pair in lora.pairs.items():
        rounded, read = pair.cast(dtype), found.pairs.get(name)
        if (not rounded.silent) if read is None else difference(rounded, read) > _TOLERANCE:
            raise UnprovenAdapter(f"The exported {path.name}, read back, changes {name} otherwise than was trained.")


def header(
    *,
    title: str,
    trigger: str,
    base: str,
    steps: int,
    licence: str,
    notice: str,
    resolution: str,
    settings: Mapping[str, Any],
    facts: Mapping[str, str],
) -> dict[str, str]:
    """Gathers what a file says about itself: modelspec 1.0.1, which galleries read, and what kohya's tools do.

    `notice` is what the base's licence asks to be passed on. `settings`: how it was trained; those that kohya's tools
    show get their names too. `facts`: what names the base.
    """
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": title,
        TRIGGER: trigger,
        "modelspec.license": licence,
        "modelspec.resolution": resolution,
        "ss_sd_model_name": base,
        "ss_output_name": title,
        "ss_steps": str(steps),
        **{theirs: str(settings[ours]) for ours, theirs in _KOHYA_SETTINGS.items() if ours in settings},
        "tintype.notice": notice,
        "tintype.base": base,
        "tintype.steps": str(steps),
        "tintype.settings": json.dumps(dict(settings), sort_keys=True),
        **facts,
    }
