"""LoRAs of Ideogram 4 in the layouts the world uses, and the exact ways between them.

diffusers keeps q, k and v apart; the original layout, which ComfyUI, kohya's tools and fal's own files follow, fuses
them and calls the output layer o. A fused layer whose three parts share the factor that reads (`down`) keeps its rank;
otherwise the three are stacked, which is exact at three times the rank. The strength alpha / rank of every layer stays
as it was. diffusers reads kohya's keys as nothing at all and goes on without a LoRA: reading here either matches every
layer or fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from tintype.errors import UnusableAdapter
from tintype.lora.pairs import Pair

Form = Literal["diffusers", "comfy", "kohya", "fal"]
FORMS: tuple[Form, ...] = ("diffusers", "comfy", "kohya", "fal")
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps rank and alpha

_QKV = ("to_q", "to_k", "to_v")
_PREFIXES = ("base_model.model.", "diffusion_model.", "conditional_transformer.", "transformer.", "model.")
_DOWNS, _UPS = ("lora_A", "lora_down", "lora.down"), ("lora_B", "lora_up", "lora.up")
_PARTS = "|".join(
    ("attention.qkv", "attention.o", "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0",
     "feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaln_modulation")
)  # fmt: skip
_UNDERSCORED = re.compile(rf"(?:lora_unet_|lora_transformer_)?layers_(\d+)_({_PARTS.replace('.', '_')})")
_LAYER = re.compile(rf"layers\.(\d+)\.({_PARTS})")


def write(layers: Mapping[str, Pair], form: Form, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and metadata of a file. `layers`: by diffusers' names, without prefix.

    `fal` has the keys of `comfy`: which prefix fal's files use is not published, and diffusers reads this one.
    """
    if form == "diffusers":
        return _write_diffusers(layers, dtype)
    tensors: dict[str, torch.Tensor] = {}
    for name, factors in fused(layers).items():
        if form == "kohya":
            key, down, up = f"lora_unet_{name.replace('.', '_')}", "lora_down", "lora_up"
        else:
            key, down, up = f"diffusion_model.{name}", "lora_A", "lora_B"
        tensors[f"{key}.{down}.weight"] = factors.down.to(dtype).contiguous()
        tensors[f"{key}.{up}.weight"] = factors.up.to(dtype).contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(factors.alpha, dtype=torch.float32)
    return tensors, {"format": "pt"}


def _write_diffusers(layers: Mapping[str, Pair], dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors: dict[str, torch.Tensor] = {}
    for name, factors in layers.items():
        tensors[f"transformer.{name}.lora_A.weight"] = factors.down.to(dtype, copy=True).contiguous()
        tensors[f"transformer.{name}.lora_B.weight"] = factors.up.to(dtype, copy=True).contiguous()
    first = next(iter(layers.values()))
    config = {
        "transformer.r": first.rank,
        "transformer.lora_alpha": first.alpha,
        "transformer.target_modules": sorted(layers),
        "transformer.rank_pattern": {name: own.rank for name, own in layers.items() if own.rank != first.rank},
        "transformer.alpha_pattern": {name: own.alpha for name, own in layers.items() if own.alpha != first.alpha},
    }
    return tensors, {METADATA_KEY: json.dumps(config, sort_keys=True), "format": "pt"}


def fused(layers: Mapping[str, Pair]) -> dict[str, Pair]:
    """The layers under the original names: q, k and v as one, to_out.0 as o."""
    found: dict[str, Pair] = {}
    for name, factors in layers.items():
        stem, _, part = name.rpartition(".attention.")
        if stem and part in _QKV:
            whole = f"{stem}.attention.qkv"
            if whole not in found:
                found[whole] = _fuse([layers.get(f"{stem}.attention.{which}") for which in _QKV])
        else:
            found[name.replace(".attention.to_out.0", ".attention.o")] = factors
    return found


def _fuse(parts: Sequence[Pair | None]) -> Pair:
    """One layer for the stack of three of the same width, of which None stay as they are."""
    present = [part for part in parts if part is not None]
    first, height = present[0], present[0].up.shape[0]
    shared = len(present) == len(parts) and all(
        part.alpha == first.alpha and torch.equal(part.down, first.down) for part in present
    )
    if shared:
        return Pair(first.down, torch.cat([part.up for part in present]), first.alpha)
    rank = sum(part.rank for part in present)
    up = first.up.new_zeros(height * len(parts), rank)
    column = 0
    for place, part in enumerate(parts):
        if part is not None:
            # The whole has one strength; where a part's differs, it goes into the part's own factor.
            strength = (part.alpha / part.rank) / (first.alpha / first.rank)
            up[place * height : (place + 1) * height, column : column + part.rank] = part.up * strength
            column += part.rank
    return Pair(torch.cat([part.down for part in present]), up, first.alpha / first.rank * rank)


def read(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], *, loc: Sequence[str | int] = ("body",)
) -> dict[str, Pair]:
    """The layers of a file of any form, by diffusers' names. Raises UnusableAdapter unless every key is known."""
    downs: dict[str, torch.Tensor] = {}
    ups: dict[str, torch.Tensor] = {}
    alphas = _stated_alphas(metadata, loc)
    strange = []
    for key, tensor in tensors.items():
        stem, kind = _taken_apart(key)
        name = _layer_name(stem)
        if name is None or not kind:
            strange.append(key)
        elif kind == "alpha":
            if tensor.numel() != 1:
                raise _unusable("An alpha is not one number", [key], loc)
            alphas[name] = float(tensor)
        else:
            side = downs if kind == "down" else ups
            if name in side:
                raise _unusable("A layer stands there twice", [name], loc)
            side[name] = tensor
    if not downs and not ups:
        raise _unusable("No key of this file names a layer of Ideogram 4", strange, loc)
    if strange:
        raise _unusable(f"{len(strange)} of this file's {len(tensors)} keys are not known", strange, loc)
    if downs.keys() != ups.keys():
        raise _unusable("Layers have only one of their two factors", sorted(downs.keys() ^ ups.keys()), loc)
    layers: dict[str, Pair] = {}
    for name, down in downs.items():
        up = ups[name]
        if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0] or not down.numel():
            raise _unusable("The two factors of a layer do not fit together", [name], loc)
        if name.endswith(".qkv") and up.shape[0] % 3:
            raise _unusable("A fused layer cannot be divided by three", [name], loc)
        alpha = alphas.get(name, alphas.get("", float(down.shape[0])))
        parts = _split(name, Pair(down, up, alpha))
        if twice := sorted(parts.keys() & layers.keys()):
            raise _unusable("A layer stands there twice", twice, loc)
        layers |= parts
    return layers


def match(layers: Mapping[str, Pair], transformer: torch.nn.Module, *, loc: Sequence[str | int] = ("body",)) -> None:
    """Raises UnusableAdapter unless every layer exists in the transformer with the same shape."""
    shapes = {
        name.removesuffix(".base_layer").removesuffix(".base"): (module.out_features, module.in_features)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    missing = [name for name in layers if name not in shapes]
    if missing:
        raise _unusable(f"{len(missing)} of this file's {len(layers)} layers are not in the base model", missing, loc)
    for name, own in layers.items():
        if (own.up.shape[0], own.down.shape[1]) != shapes[name]:
            raise _unusable(
                f"It is for a base of another size: {own.up.shape[0]}x{own.down.shape[1]} instead of "
                f"{shapes[name][0]}x{shapes[name][1]}",
                [name],
                loc,
            )


def _unusable(message: str, names: Sequence[str], loc: Sequence[str | int]) -> UnusableAdapter:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return UnusableAdapter(
        f"{message}: {shown}.",
        loc=loc,
        remedy="Send an Ideogram 4 LoRA as safetensors, in diffusers', ComfyUI's, kohya's or fal's form.",
    )


def _stated_alphas(metadata: Mapping[str, str], loc: Sequence[str | int]) -> dict[str, float]:
    """Alphas of diffusers' metadata, by layer; under "" the one for all others."""
    if METADATA_KEY not in metadata:
        return {}
    try:
        stated: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        pattern: dict[str, float] = stated.get("transformer.alpha_pattern") or {}
        alphas = {name: float(alpha) for name, alpha in pattern.items()}
        if "transformer.lora_alpha" in stated:
            alphas[""] = float(stated["transformer.lora_alpha"])
    except (ValueError, TypeError, AttributeError) as problem:
        raise _unusable(f"Its metadata cannot be read ({problem})", [METADATA_KEY], loc) from None
    return alphas


def _taken_apart(key: str) -> tuple[str, str]:
    """A key's layer, and what it holds of it: "down", "up", "alpha", or "" for anything else."""
    if key.endswith(".alpha"):
        return key.removesuffix(".alpha"), "alpha"
    plain = key.removesuffix(".weight").removesuffix(".default")
    for kind, marks in (("down", _DOWNS), ("up", _UPS)):
        for mark in marks:
            if plain.endswith(f".{mark}"):
                return plain.removesuffix(f".{mark}"), kind
    return key, ""


def _layer_name(stem: str) -> str | None:
    """A layer's name with dots and without prefixes, original or diffusers'; None for one Ideogram 4 has not."""
    found = _UNDERSCORED.fullmatch(stem)
    if found:
        dotted = next(part for part in _PARTS.split("|") if part.replace(".", "_") == found[2])
        return f"layers.{found[1]}.{dotted}"
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    return stem if _LAYER.fullmatch(stem) else None


def _split(name: str, factors: Pair) -> dict[str, Pair]:
    """A layer under diffusers' names: a fused one gives each part its rows, and all the same down."""
    if name.endswith(".qkv"):
        thirds = factors.up.chunk(3)
        names = (name.removesuffix("qkv") + which for which in _QKV)
        return {part: Pair(factors.down, up, factors.alpha) for part, up in zip(names, thirds, strict=True)}
    return {name.replace(".attention.o", ".attention.to_out.0") if name.endswith(".o") else name: factors}
