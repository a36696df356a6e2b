"""Writes a LoRA as the files the world can load: each in the naming of one program, all with the same weights.

Alpha equals the rank in what is trained here, so a reader that ignores it still applies the LoRA at its right strength;
it is written all the same, where each form keeps it: diffusers in the header (it refuses a file that has tensors as
well), the others as a tensor beside each pair.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from tintype.lora.keys import METADATA_KEY, PREFIX, Form, LoraKeys
from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair, fuse
from tintype.lora.tensor_file import write_tensors

# Where web interfaces' first, short hash of a file begins and how much it reads.
_SHORT_HASH_FROM, _SHORT_HASH_LENGTH = 0x100000, 0x10000


def write_lora(
    lora: Lora, keys: LoraKeys, path: Path, *, form: str, dtype: torch.dtype, header: Mapping[str, str]
) -> Path:
    """Writes a LoRA as a file of one of its base model's forms, rounded to `dtype`."""
    wanted = keys.form(form)
    tensors = _tensors(lora.pairs, keys, wanted, dtype)
    facts = {
        **keys.facts,
        **header,
        # Rank and alpha as kohya's tools show them: the layers' own, not those of the fused.
        "ss_network_dim": _only(str(pair.rank) for pair in lora.pairs.values()),
        "ss_network_alpha": _only(f"{pair.alpha:g}" for pair in lora.pairs.values()),
        "modelspec.implementation": keys.original_code if wanted.fused else "diffusers",
        "format": "pt",
    }
    if not wanted.fused:
        settings = lora.config | {f"{PREFIX}target_modules": sorted(lora.pairs)}
        facts[METADATA_KEY] = json.dumps(settings, sort_keys=True)
    write_tensors(tensors, path, {**facts, **_hashes(tensors, facts)})
    return path


def fused_pairs(pairs: Mapping[str, Pair], keys: LoraKeys) -> dict[str, Pair]:
    """Fuses layers as the original code has them."""
    fused = {}
    for name, place in keys.originals(pairs).items():
        parts = [pairs.get(layer) for layer in place.layers]
        first = next(part for part in parts if part is not None)
        whole = fuse(parts, keys.outputs(place.layers, first.shape[1])) if len(parts) > 1 else first
        fused[name] = whole.swapped() if place.swapped else whole
    return fused


def _tensors(pairs: Mapping[str, Pair], keys: LoraKeys, form: Form, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, pair in (fused_pairs(pairs, keys) if form.fused else pairs).items():
        stem = form.prefix + (name if form.dotted else name.replace(".", "_"))
        rounded = pair.cast(dtype)
        for mark, factor in zip(form.marks, (rounded.down, rounded.up), strict=True):
            tensors[f"{stem}.{mark}.weight"] = factor
        if form.fused:
            # In fp32 whatever the factors are in: three times an odd rank is not a bf16 number.
            tensors[f"{stem}.alpha"] = torch.tensor(pair.alpha, dtype=torch.float32)
    return tensors


def _only(values: Iterable[str]) -> str:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else "Dynamic"


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
