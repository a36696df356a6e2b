"""FLUX's LoRA files in diffusers', kohya's and ComfyUI's naming of the same weights.

kohya and ComfyUI follow the original code, which keeps query, key and value in one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from tintype.lora.flux_names import originals, outputs
from tintype.lora.layout import LoraLayout
from tintype.lora.pairs import Pair, fuse
from tintype.lora.read import PREFIX, read_lora, unusable

_ORIGINAL_CODE = "https://github.com/black-forest-labs/flux"


def _diffusers(pairs: Mapping[str, Pair], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for name, pair in pairs.items():
        rounded = pair.cast(dtype)
        yield f"{PREFIX}{name}.lora_A.weight", rounded.down
        yield f"{PREFIX}{name}.lora_B.weight", rounded.up


def _kohya(pairs: Mapping[str, Pair], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for name, pair in _fused(pairs):
        yield from _lora_down_up(f"lora_unet_{name.replace('.', '_')}", pair.cast(dtype))


def _comfy(pairs: Mapping[str, Pair], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for name, pair in _fused(pairs):
        yield from _lora_down_up(f"diffusion_model.{name}", pair.cast(dtype))


def _lora_down_up(name: str, pair: Pair) -> Iterator[tuple[str, torch.Tensor]]:
    yield f"{name}.lora_down.weight", pair.down
    yield f"{name}.lora_up.weight", pair.up
    # In fp32 whatever the factors are in: three times an odd rank is not a bf16 number.
    yield f"{name}.alpha", torch.tensor(pair.alpha, dtype=torch.float32)


def _fused(pairs: Mapping[str, Pair]) -> Iterator[tuple[str, Pair]]:
    """The layers as the original code has them."""
    for name, place in originals(pairs).items():
        parts = [pairs.get(layer) for layer in place.layers]
        first = next(part for part in parts if part is not None)
        if len(parts) > 1:
            yield name, fuse(parts, outputs(place.layers, first.down.shape[1]))
        elif place.swapped:
            half = first.up.shape[0] // 2
            yield name, Pair(first.down, torch.cat([first.up[half:], first.up[:half]]), first.alpha)
        else:
            yield name, first


_TENSORS = {"diffusers": _diffusers, "kohya": _kohya, "comfy": _comfy}


def _tensors(pairs: Mapping[str, Pair], form: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return dict(_TENSORS[form](pairs, dtype))


def _read(path: Path) -> Mapping[str, Pair]:
    lora = read_lora(path, loc=())
    if lora.other_keys:
        raise unusable("It holds more than a LoRA.", ())
    return lora.pairs


FLUX_LAYOUT = LoraLayout(
    forms=("diffusers", "kohya", "comfy"),
    tensors=_tensors,
    read=_read,
    facts={
        "modelspec.architecture": "flux-1-dev/lora",
        "ss_base_model_version": "flux1",
        "ss_network_module": "networks.lora_flux",
    },
    implementations={"diffusers": "diffusers", "kohya": _ORIGINAL_CODE, "comfy": _ORIGINAL_CODE},
)
