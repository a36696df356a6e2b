"""Reads a LoRA in any naming that trainers use, into one form, and every complaint says what is wrong with it.

diffusers has converters too, but they take exactly 19 and 38 blocks of width 3072 for granted, lose layers of some
namings without a word, and raise whatever comes up. Here a table for each base model (`keys`) and exact arithmetic
(`pairs`) do it. Whether the shapes fit the base is checked before any model is touched (`Lora.check_fits`): a file that
does not fit must leave the resident pipeline as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tintype.lora.keys import KEY, METADATA_KEY, PREFIX, LoraKeys, Place, form_of, is_text, shown, some
from tintype.lora.lora import Lora
from tintype.lora.origin import guess
from tintype.lora.pairs import Pair, check_sane, difference, split
from tintype.lora.tensor_file import TensorFile, open_tensors

# Other ways to change a weight; half of such a file would draw something nobody trained.
_FOREIGN = (("lokr_", "a LoKr"), ("hada_", "a LoHa"), ("dora_scale", "a DoRA"), ("magnitude_vector", "a DoRA"),
            ("oft_", "an OFT"), ("lora_mid", "a convolution LoRA"))  # fmt: skip
_SAME = 1e-3  # of a layer that a file holds twice

Layers = dict[str, dict[str, str]]  # a file's layers, each with its keys: of "down", "up" and perhaps "alpha"


def read_lora(path: Path, keys: LoraKeys, *, digest: str = "", known: Iterable[LoraKeys] = ()) -> Lora:
    """Parses a LoRA of a base model in any naming. Raises UnusableAdapter for anything else.

    `digest`: the file's, where it is known. `known`: tables of the base models that a refusal may name.
    """
    file = open_tensors(path)
    layers, others = _sorted(file, keys)
    if not layers:
        raise keys.refusal(_stranger(file, keys, known))
    if others and keys.whole:
        raise keys.refusal(f"{len(others)} of this file's {len(file.entries)} keys are not known: {some(others)}.")
    loaded = file.load([key for factors in layers.values() for key in factors.values()])
    settings = _settings(file.header, keys)
    pairs: dict[str, Pair] = {}
    for name, factors in layers.items():
        pair, place = _pair(name, {what: loaded[key] for what, key in factors.items()}, settings, keys)
        for layer, part in _parts(name, place, pair, keys).items():
            if layer in pairs and (keys.whole or difference(pairs[layer], part) > _SAME):
                raise keys.refusal(f"This LoRA holds {layer} twice{'' if keys.whole else ', with different values'}.")
            pairs[layer] = part
    form = form_of(next(iter(next(iter(layers.values())).values())))
    return Lora(pairs, digest, form, file.header, tuple(others))


def _sorted(file: TensorFile, keys: LoraKeys) -> tuple[Layers, list[str]]:
    """Keys by what they are: of layers, and all others."""
    layers: Layers = {}
    others = []
    for key in file.entries:
        foreign = next((what for mark, what in _FOREIGN if mark in key), "")
        if foreign and not is_text(key):
            raise keys.refusal(f"This file is {foreign} ({shown(key)}), which is not applied here.")
        found = KEY.fullmatch(key)
        if found is None or is_text(key) or keys.place_of(found["name"]) is None:
            others.append(key)
            continue
        held, which = layers.setdefault(found["name"], {}), str(found.lastgroup)
        if which in held:
            raise keys.refusal(f"This LoRA holds {shown(found['name'])} twice.")
        held[which] = key
    return {name: held for name, held in layers.items() if held.keys() != {"alpha"}}, others


def _stranger(file: TensorFile, keys: LoraKeys, known: Iterable[LoraKeys]) -> str:
    """What to say of a file that holds nothing for this base model."""
    said = f"No key of this file names a layer of {keys.model}; it is"
    if not file.entries:
        return f"{said} empty."
    maker = guess(file.entries, [other for other in known if other is not keys])
    count = f"{len(file.entries)} tensors" if len(file.entries) > 1 else "one tensor"
    return f"{said} {f'probably for {maker}' if maker else 'for something else'}. Found {count}: {some(file.entries)}."


def _pair(
    name: str, factors: Mapping[str, torch.Tensor], settings: Mapping[str, Any], keys: LoraKeys
) -> tuple[Pair, Place]:
    """A layer's factors as matrices, and what it stands for. Raises UnusableAdapter where one is missing or broken."""
    if "down" not in factors or "up" not in factors:
        raise keys.refusal(f"This LoRA is incomplete: {shown(name)} has only one of its two factors.")
    down, up = (_matrix(factors[which]) for which in ("down", "up"))
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or 0 in (*down.shape, *up.shape):
        raise keys.refusal(f"The factors of {shown(name)} do not fit each other: {_size(up)} and {_size(down)}.")
    place = keys.place_of(name)
    assert place is not None, "only layers are sorted here"
    told = factors.get("alpha")
    if told is not None and told.numel() != 1:
        raise keys.refusal(f"The alpha of {shown(name)} is not one number.")
    alpha = _header_alpha(place, down.shape[0], settings) if told is None else float(told.item())
    if not math.isfinite(alpha):
        raise keys.refusal(f"The alpha of {shown(name)} is not finite.")
    pair = Pair(down, up, alpha)
    check_sane(name, pair)
    return pair, place


def _matrix(factor: torch.Tensor) -> torch.Tensor:
    """Some trainers write a linear layer as a convolution of one pixel."""
    return factor.flatten(1) if factor.ndim == 4 and factor.shape[2:] == (1, 1) else factor


def _size(tensor: torch.Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "one number"


def _parts(name: str, place: Place, pair: Pair, keys: LoraKeys) -> dict[str, Pair]:
    """The transformer's layers that a file's layer stands for."""
    if place.swapped:
        pair = pair.swapped()
    if len(place.layers) == 1:
        return {place.layers[0]: pair}
    out, width = pair.shape
    sizes = keys.outputs(place.layers, width)
    if sum(sizes) != out:
        raise keys.refusal(
            f"{shown(name)} is {out}x{width} in the file; in {keys.model} of that width it is {sum(sizes)}x{width}."
        )
    parts = zip(place.layers, split(pair, sizes), strict=True)
    return {layer: part for layer, part in parts if part is not None}


def _settings(header: Mapping[str, str], keys: LoraKeys) -> dict[str, Any]:
    """PEFT's settings as diffusers keeps them in the header, of which only alphas are used."""
    try:
        settings = json.loads(header.get(METADATA_KEY, "{}"))
        alphas = settings.get(f"{PREFIX}alpha_pattern") or {}
        numbers = [settings.get(f"{PREFIX}lora_alpha", 1.0), *alphas.values()]
        if not all(math.isfinite(float(number)) for number in numbers):
            raise ValueError("an alpha is not finite")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise keys.refusal(f"What {METADATA_KEY} says in the file's header cannot be read ({problem}).") from None
    return dict(settings)


def _header_alpha(place: Place, rank: int, settings: Mapping[str, Any]) -> float:
    """Alpha from the header, else the rank: a scale of 1. In the header, layers may be named by their ending."""
    layer = place.layers[0]
    alpha = settings.get(f"{PREFIX}lora_alpha", rank)
    for pattern, special in (settings.get(f"{PREFIX}alpha_pattern") or {}).items():
        ending = pattern.removeprefix("^").replace("\\", "")
        if layer == ending or (layer.endswith(f".{ending}") and not pattern.startswith("^")):
            alpha = special
            break
    # Rank-stabilised LoRA (arXiv 2312.03732) divides by the root of the rank.
    return float(alpha) * (math.sqrt(rank) if settings.get(f"{PREFIX}use_rslora") else 1.0)
