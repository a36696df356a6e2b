"""Reads a LoRA in any naming that trainers use, into one form, and every complaint says what is wrong with it.

diffusers has converters too, but they take exactly 19 and 38 blocks of width 3072 for granted, lose layers of some
namings without a word, and raise whatever comes up. Here a table for each base model (`keys`) and exact arithmetic
(`pairs`) do it. Whether the shapes fit the base is checked before any model is touched (`Lora.check_fits`): a file that
does not fit must leave the resident pipeline as it was.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tintype.lora.keys import KEY, METADATA_KEY, PREFIX, TEXT, LoraKeys, Place, form_of, is_text, shown, some
from tintype.lora.lora import Lora
from tintype.lora.origin import guess
from tintype.lora.pairs import Pair, check_sane, difference, split
from tintype.lora.tensor_file import TensorFile, open_tensors

# Other ways to change a weight, by what their keys hold; half of such a file would draw something nobody trained.
_REPLACED = "a checkpoint or a control LoRA, with tensors that replace the base model's own"
_FOREIGN = (
    (r"\blokr_", "a LoKr"),
    (r"\bhada_", "a LoHa"),
    (r"\bdora_scale|magnitude_vector", "a DoRA"),
    (r"\b(oft|boft)_", "an OFT"),
    (r"\b(on_input|ia3_l)\b", "an (IA)³"),
    (r"\.[ab][12]\.weight$", "a GLoRA"),
    (r"\b(vera|randlora)_", "a VeRA"),
    (r"\blora_mid\b", "a convolution LoRA"),
    (r"\b(set|reshape)_weight$", _REPLACED),
)
_WHOLE = re.compile(r"(?P<name>.+)\.(weight|bias|scale)")
_DIFFERENCE = re.compile(r"\.(diff|diff_b|w_norm|b_norm)$")
_SAME = 1e-3  # of a layer that a file holds twice

Layers = dict[str, dict[str, str]]  # a file's layers, each with its keys by KEY's groups: "down", "up", "alpha", …


def read_lora(path: Path, keys: LoraKeys, *, digest: str = "", known: Iterable[LoraKeys] = ()) -> Lora:
    """Parses a LoRA of a base model in any naming. Raises UnusableAdapter for anything else.

    `digest`: the file's, where it is known. `known`: tables of the base models that a refusal may name.
    """
    file = open_tensors(path)
    maker = guess(file.entries, [other for other in known if other is not keys], file.header)
    layers, text, strange = _sorted(file, keys, maker)
    if all(map(is_text, layers)):
        raise keys.refusal(_stranger(file, keys, maker))
    silent = file.silent([key for key in (*text, *strange) if _DIFFERENCE.search(key)])
    text = [key for key in text if key not in silent]
    if strange := [key for key in strange if key not in silent]:
        told = f"; it is probably for {maker}" if maker and maker != keys.model else ""
        raise keys.refusal(
            f"{len(strange)} of this file's {len(file.entries)} keys are not known: {some(strange)}{told}."
        )
    loaded = file.load([key for held in layers.values() for key in held.values()])
    settings = _settings(file.header, keys)
    pairs: dict[str, Pair] = {}
    shifts: dict[str, torch.Tensor] = {}
    for name, held in layers.items():
        place = keys.place_of(name)
        assert place is not None, "only layers are sorted here"
        pair, vectors = _layer(name, place, {what: loaded[key] for what, key in held.items()}, settings, keys)
        for layer, part in (_parts(name, place, pair, keys) if pair else {}).items():
            other = pairs.get(layer)
            if other and (other.shape != part.shape or difference(other, part) > _SAME):
                raise keys.refusal(f"This LoRA holds {layer} twice, with different values.")
            pairs[layer] = part
        for which, vector in vectors.items():
            for layer, piece in _pieces(name, place, vector, keys).items():
                known_piece = shifts.setdefault(f"{layer}.{which}", piece)
                if known_piece.shape != piece.shape or not torch.allclose(known_piece, piece, _SAME):
                    raise keys.refusal(f"This LoRA holds {layer}.{which} twice, with different values.")
    text_pairs = {layer: pairs.pop(layer) for layer in list(pairs) if layer.startswith(TEXT)}
    if not pairs:
        raise keys.refusal(f"This file changes biases or norms alone, not one matrix: {some(shifts or layers)}.")
    form = form_of(next(name for name in layers if not is_text(name)))
    shifts = {name: shift for name, shift in shifts.items() if shift.any()}
    return Lora(pairs, shifts, text_pairs, digest, form, file.header, tuple(text))


def _sorted(file: TensorFile, keys: LoraKeys, maker: str) -> tuple[Layers, list[str], list[str]]:
    """Keys by what they are: of layers, of text encoders, and all others."""
    layers: Layers = {}
    text: list[str] = []
    others: list[str] = []
    for key in file.entries:
        found = KEY.fullmatch(key)
        place = keys.place_of(found["name"]) if found else None
        if foreign := _foreign(key, keys):
            whose = f", probably for {maker}," if maker and maker != keys.model else ""
            raise keys.refusal(f"This file{whose} is {foreign} ({shown(key)}), which is not applied here.")
        if found is None or place is None:
            (text if is_text(key) else others).append(key)
            continue
        held, which = layers.setdefault(found["name"], {}), str(found.lastgroup)
        if which in held:
            raise keys.refusal(f"This LoRA holds {shown(found['name'])} twice.")
        held[which] = key
    return {name: held for name, held in layers.items() if held.keys() != {"alpha"}}, text, others


def _foreign(key: str, keys: LoraKeys) -> str:
    """What a file with such a key is, if it is no LoRA."""
    whole = _WHOLE.fullmatch(key)
    if whole and keys.place_of(whole["name"]):
        return _REPLACED
    return next((what for mark, what in _FOREIGN if re.search(mark, key)), "")


def _stranger(file: TensorFile, keys: LoraKeys, maker: str) -> str:
    """What to say of a file that holds nothing for this base model."""
    said = f"This file holds no LoRA layer of {keys.model}; it is"
    if not file.entries:
        return f"{said} empty."
    count = f"{len(file.entries)} tensors" if len(file.entries) > 1 else "one tensor"
    return f"{said} {f'probably for {maker}' if maker else 'for something else'}. Found {count}: {some(file.entries)}."


def _layer(
    name: str, place: Place, parts: Mapping[str, torch.Tensor], settings: Mapping[str, Any], keys: LoraKeys
) -> tuple[Pair | None, dict[str, torch.Tensor]]:
    """The change of a layer's matrix, and what is added to its vectors. Raises UnusableAdapter for what is broken."""
    pair = _factors(name, place, parts, settings, keys) if parts.keys() & {"down", "up", "bias"} else None
    vectors = {}
    if "bias" in parts and pair:
        vectors["bias"] = pair.scale * parts["bias"].float()
    if "diff_b" in parts:
        if vectors:
            raise keys.refusal(f"This LoRA holds the bias of {shown(name)} twice.")
        vectors["bias"] = parts["diff_b"].float()
    if "diff" in parts:
        whole = _matrix(parts["diff"])
        if whole.ndim == 2 and whole.numel():
            if pair and pair.shape != whole.shape:
                raise keys.refusal(
                    f"The difference of {shown(name)} has another size than its factors: {_size(whole)}."
                )
            pair = pair.plus(Pair.exactly(whole)) if pair else Pair.exactly(whole)
        else:
            vectors["weight"] = whole.float()
    for which, vector in vectors.items():
        if vector.ndim != 1 or not vector.numel():
            raise keys.refusal(f"The {which} of {shown(name)} is {_size(vector)} in the file, not a row of values.")
        check_sane(name, float(torch.linalg.vector_norm(vector.double())))
    if pair:
        check_sane(name, pair.bound())
    return pair, vectors


def _factors(
    name: str, place: Place, parts: Mapping[str, torch.Tensor], settings: Mapping[str, Any], keys: LoraKeys
) -> Pair:
    if "down" not in parts or "up" not in parts:
        raise keys.refusal(f"This LoRA is incomplete: {shown(name)} has only one of its two factors.")
    down, up = (_matrix(parts[which]) for which in ("down", "up"))
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or 0 in (*down.shape, *up.shape):
        raise keys.refusal(f"The factors of {shown(name)} do not fit each other: {_size(up)} and {_size(down)}.")
    told = parts.get("alpha")
    if told is not None and told.numel() != 1:
        raise keys.refusal(f"The alpha of {shown(name)} is not one number.")
    alpha = _header_alpha(place, down.shape[0], settings) if told is None else float(told.item())
    if not math.isfinite(alpha):
        raise keys.refusal(f"The alpha of {shown(name)} is not finite.")
    return Pair(down, up, alpha)


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


def _pieces(name: str, place: Place, vector: torch.Tensor, keys: LoraKeys) -> dict[str, torch.Tensor]:
    """A vector of a file's layer, for the transformer's layers that it stands for."""
    if place.swapped:
        vector = torch.cat(vector.chunk(2)[::-1])
    shares = keys.outputs(place.layers, 1) if len(place.layers) > 1 else [1]
    width, rest = divmod(len(vector), sum(shares))
    if rest:
        raise keys.refusal(f"{shown(name)} has a bias of {len(vector)} values; they are no {sum(shares)} equal parts.")
    return dict(zip(place.layers, torch.split(vector, [width * share for share in shares]), strict=True))


def _settings(header: Mapping[str, str], keys: LoraKeys) -> dict[str, Any]:
    """PEFT's settings as diffusers keeps them in the header, of which only alphas are used."""
    try:
        settings = json.loads(header.get(METADATA_KEY, "{}"))
        numbers = [settings.get(f"{prefix}lora_alpha", 1.0) for prefix in (PREFIX, *TEXT)]
        for prefix in (PREFIX, *TEXT):
            numbers += (settings.get(f"{prefix}alpha_pattern") or {}).values()
        if not all(math.isfinite(float(number)) for number in numbers):
            raise ValueError("an alpha is not finite")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise keys.refusal(f"What {METADATA_KEY} says in the file's header cannot be read ({problem}).") from None
    return dict(settings)


def _header_alpha(place: Place, rank: int, settings: Mapping[str, Any]) -> float:
    """Alpha from the header, else the rank: a scale of 1. In the header, layers may be named by their ending."""
    layer = place.layers[0]
    prefix = next(filter(layer.startswith, TEXT), PREFIX)
    alpha = settings.get(f"{prefix}lora_alpha", rank)
    for pattern, special in (settings.get(f"{prefix}alpha_pattern") or {}).items():
        ending = pattern.removeprefix("^").replace("\\", "")
        if layer == ending or (layer.endswith(f".{ending}") and not pattern.startswith("^")):
            alpha = special
            break
    # Rank-stabilised LoRA (arXiv 2312.03732) divides by the root of the rank.
    return float(alpha) * (math.sqrt(rank) if settings.get(f"{PREFIX}use_rslora") else 1.0)
