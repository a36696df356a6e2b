"""Reads a FLUX LoRA in any naming that trainers use, into one form, and every complaint says what is wrong with it.

diffusers has converters too, but they take exactly 19 and 38 blocks of width 3072 for granted, lose layers of some
namings without a word, and raise whatever comes up. Here a table (lora_names) and exact arithmetic (lora_pairs) do it.
Whether the shapes fit the base is checked before any model is touched: a file that does not fit must leave the resident
pipeline as it was.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tintype.lora.flux_names import Place, form_of, is_text, outputs, place_of
from tintype.lora.origin import guess, some, twin
from tintype.lora.pairs import Pair, check_sane, difference, split
from tintype.lora.tensor_file import TensorFile, digest_of, open_tensors, shown, unusable

__all__ = ["METADATA_KEY", "PREFIX", "LoraFile", "Pair", "check_fits", "digest_of", "linear_shapes", "peft_settings",
           "read_lora", "unusable"]  # fmt: skip

PREFIX = "transformer."
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps rank and alpha
_FACTOR = re.compile(r"(.+?)\.(lora_A|lora_down|lora\.down|down|lora_B|lora_up|lora\.up|up)(?:\.default)?\.weight")
_DOWNS = ("lora_A", "lora_down", "lora.down", "down")
# Other ways to change a weight; half of such a file would draw something nobody trained.
_FOREIGN = (("lokr_", "a LoKr"), ("hada_", "a LoHa"), ("dora_scale", "a DoRA"), ("magnitude_vector", "a DoRA"),
            ("oft_", "an OFT"), ("lora_mid", "a convolution LoRA"))  # fmt: skip
_SAME = 1e-3  # of a layer that a file holds twice


@dataclass(frozen=True)
class LoraFile:
    """A LoRA in diffusers' terms: factors by the transformer's layer names."""

    path: Path
    pairs: Mapping[str, Pair]
    digest: str
    form: str = ""
    header: Mapping[str, str] = field(default_factory=dict)
    other_keys: tuple[str, ...] = ()

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The factors under diffusers' keys."""
        return {
            f"{PREFIX}{name}.lora_{which}.weight": factor
            for name, pair in self.pairs.items()
            for which, factor in (("A", pair.down), ("B", pair.up))
        }

    @property
    def config(self) -> dict[str, Any]:
        """PEFT's settings for it, made from the shapes and alphas alone.

        What a file says about itself is not passed on: PEFT would follow it into initialisations that rewrite the base
        model's own weights.
        """
        # As one pattern, because PEFT takes the names of a list for endings: proj_out would be every block's too.
        targets = "|".join(re.escape(name) for name in sorted(self.pairs))
        return peft_settings(self.pairs) | {f"{PREFIX}target_modules": targets}

    @property
    def ranks(self) -> str:
        """Its rank in words, or the range where layers differ."""
        low, high = (choose(pair.rank for pair in self.pairs.values()) for choose in (min, max))
        return f"rank {low}" if low == high else f"ranks {low} to {high}"

    def account(self, targets: Collection[str]) -> list[str]:
        """What of it goes into a training of these layers, and what does not."""
        taken = [name for name in self.pairs if name in targets]
        said = [
            f"Going on from an earlier LoRA in {self.form}, {self.ranks}: {len(taken)} of {len(targets)} layers start "
            "from it."
        ]
        if left := [name for name in self.pairs if name not in targets]:
            said.append(f"{len(left)} of its layers are not trained here and were left out: {some(left)}.")
        if self.other_keys:
            said.append(f"{len(self.other_keys)} of its tensors were left out: {some(self.other_keys)}.")
        return said


def peft_settings(pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """What PEFT has to know about these layers, under diffusers' prefix."""
    first = next(iter(pairs.values()))
    return {
        f"{PREFIX}r": first.rank,
        f"{PREFIX}lora_alpha": first.alpha,
        f"{PREFIX}target_modules": sorted(pairs),
        f"{PREFIX}rank_pattern": {
            f"^{re.escape(name)}": pair.rank for name, pair in pairs.items() if pair.rank != first.rank
        },
        f"{PREFIX}alpha_pattern": {
            f"^{re.escape(name)}": pair.alpha for name, pair in pairs.items() if pair.alpha != first.alpha
        },
    }


def read_lora(path: Path, *, loc: Sequence[str | int]) -> LoraFile:
    """Parses a FLUX LoRA in any form of lora_names. Raises UnusableAdapter at `loc`."""
    file = open_tensors(path, loc=loc)
    layers, alphas, others = _sorted(file, loc)
    if not layers:
        raise unusable(_stranger(file), loc)
    wanted = [key for keys in layers.values() for key in keys.values()]
    alphas = {name: key for name, key in alphas.items() if name in layers}
    loaded = file.load([*wanted, *alphas.values()], loc)
    settings = _settings(file.header, loc)
    pairs: dict[str, Pair] = {}
    for name, keys in layers.items():
        pair = _pair(name, keys, loaded, loc)
        place = place_of(name)
        assert place is not None
        alpha = _alpha(name, alphas, loaded, loc) if name in alphas else _told_alpha(place, pair.rank, settings)
        pair = Pair(pair.down, pair.up, alpha)
        check_sane(name, pair, loc)
        for layer, part in _parts(name, place, pair, loc).items():
            if layer in pairs and difference(pairs[layer], part) > _SAME:
                raise unusable(f"This LoRA holds {layer} twice, with different values.", loc)
            pairs[layer] = part
    return LoraFile(path, pairs, digest_of(path), form_of(wanted[0]), file.header, tuple(others))


def check_fits(lora: LoraFile, transformer: torch.nn.Module, *, loc: Sequence[str | int]) -> None:
    """Raises UnusableAdapter unless every layer of the file exists in the transformer with the same shape."""
    shapes = linear_shapes(transformer)
    matched = [name for name in lora.pairs if name in shapes]
    if not matched:
        raise unusable(
            f"No layer of this LoRA exists in the base model; it was made for another one. Found: {some(lora.pairs)}.",
            loc,
        )
    for name in matched:
        pair, (out, into) = lora.pairs[name], shapes[name]
        if pair.down.shape[1] != into or pair.up.shape[0] != out:
            maker = twin(pair.down.shape[1]) if name.endswith("to_q") else ""
            raise unusable(
                f"This LoRA was made for a base of another size{f', probably {maker}' if maker else ''}: {name} is "
                f"{pair.up.shape[0]}x{pair.down.shape[1]} in the file and {out}x{into} in the base.",
                loc,
            )
    if absent := [name for name in lora.pairs if name not in shapes]:
        raise unusable(
            f"{len(absent)} of this LoRA's {len(lora.pairs)} layers do not exist in the base model ({some(absent)}); "
            "it was made for another one.",
            loc,
        )


def linear_shapes(transformer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer, by its own name even where an adapter is wrapped around it."""
    return {
        name.removesuffix(".base_layer"): (module.out_features, module.in_features)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def _sorted(file: TensorFile, loc: Sequence[str | int]) -> tuple[dict[str, dict[str, str]], dict[str, str], list[str]]:
    """Keys by what they are: layers' factors (down, up), layers' alphas, and all others."""
    layers: dict[str, dict[str, str]] = {}
    alphas: dict[str, str] = {}
    others = []
    for key in file.entries:
        if not is_text(key):
            for mark, what in _FOREIGN:
                if mark in key:
                    raise unusable(f"This file is {what} ({shown(key)}), which is not applied here.", loc)
        factor = _FACTOR.fullmatch(key)
        name = factor[1] if factor else key.removesuffix(".alpha")
        if is_text(key) or place_of(name) is None or (not factor and name == key):
            others.append(key)
        elif factor:
            layers.setdefault(name, {})["down" if factor[2] in _DOWNS else "up"] = key
        else:
            alphas[name] = key
    return layers, alphas, others


def _stranger(file: TensorFile) -> str:
    """What to say of a file that holds nothing for FLUX."""
    if not file.entries:
        return "This file holds no LoRA layer of a FLUX transformer; it is empty."
    maker = guess(file.entries)
    count = f"{len(file.entries)} tensors" if len(file.entries) > 1 else "one tensor"
    return (
        f"This file holds no LoRA layer of a FLUX transformer{f'; it is probably for {maker}' if maker else ''}. "
        f"Found {count}: {some(file.entries)}."
    )


def _pair(name: str, keys: Mapping[str, str], loaded: Mapping[str, torch.Tensor], loc: Sequence[str | int]) -> Pair:
    """A layer's factors as matrices; alpha is still open. Raises UnusableAdapter where one is missing or misshapen."""
    if len(keys) < 2:
        raise unusable(f"This LoRA is incomplete: {shown(name)} has only one of its two factors.", loc)
    down, up = (_matrix(loaded[keys[which]]) for which in ("down", "up"))
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or 0 in (*down.shape, *up.shape):
        raise unusable(f"The factors of {shown(name)} do not fit each other: {_size(up)} and {_size(down)}.", loc)
    return Pair(down, up, 0.0)


def _matrix(factor: torch.Tensor) -> torch.Tensor:
    """Some trainers write a linear layer as a convolution of one pixel."""
    return factor.flatten(1) if factor.ndim == 4 and factor.shape[2:] == (1, 1) else factor


def _size(tensor: torch.Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "one number"


def _parts(name: str, place: Place, pair: Pair, loc: Sequence[str | int]) -> dict[str, Pair]:
    """The transformer's layers that a file's layer stands for."""
    if place.swapped:
        half = pair.up.shape[0] // 2
        pair = Pair(pair.down, torch.cat([pair.up[half:], pair.up[:half]]), pair.alpha)
    if len(place.layers) == 1:
        return {place.layers[0]: pair}
    out, width = pair.up.shape[0], pair.down.shape[1]
    sizes = outputs(place.layers, width)
    if sum(sizes) != out:
        raise unusable(
            f"{shown(name)} is {out}x{width} in the file; in FLUX.1 of that width it is {sum(sizes)}x{width}.", loc
        )
    parts = zip(place.layers, split(pair, sizes), strict=True)
    return {layer: part for layer, part in parts if part is not None}


def _alpha(name: str, alphas: Mapping[str, str], loaded: Mapping[str, torch.Tensor], loc: Sequence[str | int]) -> float:
    told = loaded[alphas[name]]
    if told.numel() != 1 or not math.isfinite(told.item()):
        raise unusable(f"The alpha of {shown(name)} is not a finite number.", loc)
    return float(told.item())


def _settings(header: Mapping[str, str], loc: Sequence[str | int]) -> dict[str, Any]:
    """PEFT's settings as diffusers keeps them in the header, of which only alphas are used."""
    try:
        settings = json.loads(header.get(METADATA_KEY, "{}"))
        alphas = settings.get(f"{PREFIX}alpha_pattern") or {}
        numbers = [settings.get(f"{PREFIX}lora_alpha", 1.0), *alphas.values()]
        if not all(math.isfinite(float(number)) for number in numbers):
            raise ValueError("an alpha is not finite")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise unusable(f"What {METADATA_KEY} says in the file's header cannot be read ({problem}).", loc) from None
    return dict(settings)


def _told_alpha(place: Place, rank: int, settings: Mapping[str, Any]) -> float:
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
