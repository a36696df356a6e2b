"""Writes an adapter as the files the world can load: each in the naming of one program, all with the same weights.

Alpha equals the rank in what is trained here, so a reader that ignores it still applies the LoRA at its right strength;
it is written all the same, where each form keeps it: diffusers in the header (it refuses a file that has tensors as
well), the others as a tensor beside each pair. Each file is read back before anyone is given it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file

from tintype.errors import UnprovenAdapter, UnusableAdapter
from tintype.lora.adapter import Adapter
from tintype.lora.layout import LoraLayout
from tintype.lora.pairs import Pair, difference
from tintype.lora.read import METADATA_KEY, peft_settings

# Writing rounds once, before it compares: what is read back must be the same but for the arithmetic of comparing.
_TOLERANCE = 1e-5
# Where web interfaces' first, short hash of a file begins and how much it reads.
_SHORT_HASH_FROM, _SHORT_HASH_LENGTH = 0x100000, 0x10000


def to_diffusers(
    layout: LoraLayout,
    adapter: Adapter,
    path: Path,
    *,
    weights: torch.Tensor | None,
    dtype: torch.dtype,
    header: Mapping[str, str],
) -> Path:
    """A safetensors file for a pipeline's `load_lora_weights`. `weights`: flat, instead of the adapter's own."""
    return write(layout, _pairs(adapter, weights), path, "diffusers", dtype=dtype, header=header)


def export_all(
    layout: LoraLayout,
    adapter: Adapter,
    folder: Path,
    *,
    weights: torch.Tensor | None,
    dtype: torch.dtype,
    header: Mapping[str, str],
) -> dict[str, Path]:
    """The adapter in every form: `lora.safetensors` for diffusers, `lora-kohya.safetensors` and so on for the others.

    Raises UnprovenAdapter if one of them, read back, is not what was written.
    """
    pairs = _pairs(adapter, weights)
    written = {}
    for form in layout.forms:
        name = "lora.safetensors" if form == "diffusers" else f"lora-{form}.safetensors"
        written[form] = write(layout, pairs, folder / name, form, dtype=dtype, header=header)
        check_written(layout, written[form], pairs, dtype=dtype)
    return written


def write(
    layout: LoraLayout,
    pairs: Mapping[str, Pair],
    path: Path,
    form: str,
    *,
    dtype: torch.dtype,
    header: Mapping[str, str],
) -> Path:
    """A LoRA, by the transformer's layers, as a file of one of the layout's forms."""
    tensors = layout.tensors(pairs, form, dtype)
    settings = {METADATA_KEY: json.dumps(peft_settings(pairs), sort_keys=True)} if form == "diffusers" else {}
    whose = {"modelspec.implementation": layout.implementations[form]}
    facts = {**header, **layout.facts, **_network(pairs), **whose, **settings, "format": "pt"}
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh, metadata={**facts, **_hashes(tensors, facts)})
    fresh.replace(path)
    return path


def check_written(layout: LoraLayout, path: Path, pairs: Mapping[str, Pair], *, dtype: torch.dtype) -> None:
    """Raises UnprovenAdapter unless the file, read back, changes every layer as these pairs do once rounded."""
    try:
        found = layout.read(path)
    except UnusableAdapter as problem:
        raise UnprovenAdapter(f"The exported {path.name} cannot be read back: {problem.message}") from None
    if set(found) - set(pairs):
        raise UnprovenAdapter(f"The exported {path.name} holds more than was trained.")
    for name, pair in pairs.items():
        rounded, read = pair.cast(dtype), found.get(name)
        if (not rounded.silent) if read is None else difference(rounded, read) > _TOLERANCE:
            raise UnprovenAdapter(f"The exported {path.name}, read back, changes {name} otherwise than was trained.")


def header(
    *,
    title: str,
    trigger: str,
    base: str,
    steps: int,
    licence: str,
    resolution: str = "1024x1024",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """What the file says about itself: modelspec 1.0.1, which galleries and user interfaces read, and what kohya's do.

    `settings`: how it was trained; those that kohya's tools show get their names too.
    """
    told = dict(settings or {})
    theirs = {name: str(told[ours]) for ours, name in _KOHYA_SETTINGS.items() if ours in told}
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": title,
        "modelspec.trigger_phrase": trigger,
        "modelspec.license": licence,
        "modelspec.resolution": resolution,
        "ss_sd_model_name": base,
        "ss_output_name": title,
        "ss_steps": str(steps),
        **theirs,
        "tintype.base": base,
        "tintype.steps": str(steps),
        "tintype.settings": json.dumps(told, sort_keys=True),
    }


_KOHYA_SETTINGS = {
    "learning_rate": "ss_learning_rate",
    "batch_size": "ss_total_batch_size",
    "seed": "ss_seed",
    "optimizer": "ss_optimizer",
    "warmup_steps": "ss_lr_warmup_steps",
    "guidance": "ss_guidance_scale",
    "pictures": "ss_num_train_images",
}


def _pairs(adapter: Adapter, weights: torch.Tensor | None) -> dict[str, Pair]:
    return {name: Pair(down, up, adapter.alpha) for name, (down, up) in adapter.state(weights).items()}


def _network(pairs: Mapping[str, Pair]) -> dict[str, str]:
    """Rank and alpha as kohya's tools show them: the layers' own, not those of the fused."""
    ranks, alphas = {str(pair.rank) for pair in pairs.values()}, {f"{pair.alpha:g}" for pair in pairs.values()}
    return {
        "ss_network_dim": ranks.pop() if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": alphas.pop() if len(alphas) == 1 else "Dynamic",
    }


def _hashes(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of the tensors' bytes in the file's order, and the two names and the short form kohya's tools look for.

    The short one depends on the header too, of which only the `ss_` entries are taken, so that renaming a file in a
    gallery leaves it as it is.
    """
    content = save(dict(tensors), metadata={name: said for name, said in facts.items() if name.startswith("ss_")})
    start = 8 + int.from_bytes(content[:8], "little")
    whole = hashlib.sha256(memoryview(content)[start:]).hexdigest()
    short = hashlib.sha256(content[_SHORT_HASH_FROM : _SHORT_HASH_FROM + _SHORT_HASH_LENGTH]).hexdigest()[:8]
    return {"modelspec.hash_sha256": f"0x{whole}", "sshs_model_hash": whole, "sshs_legacy_hash": short}
