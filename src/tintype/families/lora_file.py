"""Reads a LoRA that someone sent: safetensors only, and every complaint says what is wrong with the file.

A pickle runs code when it is opened, so nothing but safetensors is ever parsed. Whether the shapes fit the base is
checked here, before any model is touched: a file that does not fit must leave the resident pipeline as it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tintype.errors import UnusableAdapter

PREFIX = "transformer."
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps rank and alpha
_LONGEST_HEADER = 64 * 1024 * 1024
_LONGEST_REMARK = 200  # characters of a library's complaint that are passed on
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Pair:
    """One layer's factors: its weight changes by (alpha / rank) · up @ down."""

    down: torch.Tensor  # (rank, in)
    up: torch.Tensor  # (out, rank)
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True)
class LoraFile:
    """A LoRA in diffusers' terms: factors by the transformer's layer names."""

    path: Path
    readable: Path  # the same file under a name that ends in .safetensors, which diffusers insists on
    pairs: Mapping[str, Pair]
    digest: str
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
        first = next(iter(self.pairs.values()))
        return {
            f"{PREFIX}r": first.rank,
            f"{PREFIX}lora_alpha": first.alpha,
            f"{PREFIX}target_modules": sorted(self.pairs),
            f"{PREFIX}rank_pattern": {
                re.escape(name): pair.rank for name, pair in self.pairs.items() if pair.rank != first.rank
            },
            f"{PREFIX}alpha_pattern": {
                re.escape(name): pair.alpha for name, pair in self.pairs.items() if pair.alpha != first.alpha
            },
        }


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes: the identity of an adapter."""
    seen = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            seen.update(chunk)
    return seen.hexdigest()


def read_lora(path: Path, *, loc: Sequence[str | int]) -> LoraFile:
    """Parses a FLUX LoRA in any form diffusers reads. Raises UnusableAdapter at `loc`."""
    header = _header(path, loc)
    from diffusers import FluxPipeline

    readable = _named(path)
    try:
        state, alphas, metadata = FluxPipeline.lora_state_dict(
            str(path.parent), weight_name=readable.name, return_alphas=True, return_lora_metadata=True,
            use_safetensors=True, local_files_only=True,
        )  # fmt: skip
    except (
        ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError,
        OSError, RuntimeError, SafetensorError,
    ) as problem:  # fmt: skip
        # diffusers' converters of other trainers' files meet the unexpected in any of these ways.
        said = " ".join(str(problem).split())[:_LONGEST_REMARK]
        raise unusable(f"This file is not a LoRA that can be read ({said}).", loc) from None
    pairs, others = _pairs(state, alphas or {}, metadata or {})
    if not pairs:
        raise unusable("This file holds no LoRA layer of a FLUX transformer.", loc)
    return LoraFile(path, readable, pairs, digest_of(path), header, others)


def check_fits(lora: LoraFile, transformer: torch.nn.Module, *, loc: Sequence[str | int]) -> None:
    """Raises UnusableAdapter unless every layer of the file exists in the transformer with the same shape."""
    shapes = linear_shapes(transformer)
    matched = [name for name in lora.pairs if name in shapes]
    if not matched:
        raise unusable("No layer of this LoRA exists in the base model; it was made for another one.", loc)
    for name in matched:
        pair, (out, into) = lora.pairs[name], shapes[name]
        if pair.down.shape[1] != into or pair.up.shape[0] != out or pair.up.shape[1] != pair.rank:
            raise unusable(
                f"This LoRA was made for a base of another size: {name} is {pair.up.shape[0]}x{pair.down.shape[1]} "
                f"in the file and {out}x{into} in the base.",
                loc,
            )
    if len(matched) < len(lora.pairs):
        missing = next(name for name in lora.pairs if name not in shapes)
        raise unusable(
            f"{len(lora.pairs) - len(matched)} of this LoRA's {len(lora.pairs)} layers do not exist in the base model "
            f"({missing}, …).",
            loc,
        )


def linear_shapes(transformer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer, by its own name even where an adapter is wrapped around it."""
    return {
        name.removesuffix(".base_layer"): (module.out_features, module.in_features)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def unusable(message: str, loc: Sequence[str | int]) -> UnusableAdapter:
    """The one way to refuse a LoRA."""
    return UnusableAdapter(message, loc=loc, remedy="Send a FLUX LoRA as safetensors, made for this base model.")


def _header(path: Path, loc: Sequence[str | int]) -> dict[str, str]:
    """The safetensors header's metadata. Raises UnusableAdapter for anything that is not safetensors."""
    with path.open("rb") as source:
        first = source.read(9)
    # A safetensors file: eight bytes of header length, then JSON.
    if first[8:] != b"{" or int.from_bytes(first[:8], "little") > _LONGEST_HEADER:
        pickled = first[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        said = "a PyTorch pickle, which could run code" if pickled else "something else"
        raise unusable(f"Only safetensors files are opened; this one is {said}.", loc)
    try:
        with safe_open(path, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as problem:
        raise unusable(f"The safetensors file is damaged ({problem}).", loc) from None


def _named(path: Path) -> Path:
    """diffusers tells formats by the suffix; a fetched file may have none."""
    if path.suffix == ".safetensors":
        return path
    linked = path.with_name(f"{path.name}.safetensors")
    if not linked.exists():
        linked.hardlink_to(path)
    return linked


def _pairs(
    state: Mapping[str, torch.Tensor], alphas: Mapping[str, Any], metadata: Mapping[str, Any]
) -> tuple[dict[str, Pair], tuple[str, ...]]:
    downs = {key: _layer(key, "lora_A", "lora_down", "lora.down") for key in state}
    ups = {key: _layer(key, "lora_B", "lora_up", "lora.up") for key in state}
    by_up = {layer: state[key] for key, layer in ups.items() if layer}
    pairs = {}
    for key, layer in downs.items():
        if layer and layer in by_up and state[key].ndim == 2 and by_up[layer].ndim == 2:
            rank = state[key].shape[0]
            pairs[layer] = Pair(state[key], by_up[layer], _alpha(layer, rank, alphas, metadata))
    others = tuple(key for key in state if not downs[key] and not ups[key])
    return pairs, others


def _layer(key: str, *marks: str) -> str:
    """`transformer.X.lora_A.weight` → X; empty for keys of another kind."""
    if key.startswith(PREFIX):
        for mark in marks:
            if key.endswith(f".{mark}.weight"):
                return key.removeprefix(PREFIX).removesuffix(f".{mark}.weight")
    return ""


def _alpha(layer: str, rank: int, alphas: Mapping[str, Any], metadata: Mapping[str, Any]) -> float:
    for key in (f"{PREFIX}{layer}.alpha", f"{layer}.alpha"):
        if key in alphas:
            return float(alphas[key])
    pattern = metadata.get(f"{PREFIX}alpha_pattern") or {}
    return float(pattern.get(layer, metadata.get(f"{PREFIX}lora_alpha", rank)))
