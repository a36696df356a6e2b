"""Reads Ideogram 4's transformers in the layouts people have: diffusers or original names, bf16, nf4, or scaled fp8.

diffusers reads its own names and bitsandbytes' nf4. The original layout fuses q, k and v, and fp8 files keep a scale
beside each matrix, which diffusers would load as plain numbers; both are turned into a bf16 network here. What
cannot be read is refused before gigabytes are, with a sentence that says what can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import Ideogram4Transformer2DModel
from diffusers.models.normalization import RMSNorm
from safetensors import safe_open
from torch import nn

from tintype.errors import WeightsMissing
from tintype.models.contents import quantisation, read_json
from tintype.models.ideogram4 import FAMILY
from tintype.models.ideogram4.network import pin_rotary

_READABLE = FAMILY.readable
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "conditional_transformer.", "transformer.")
_SCALE_NAMES = (".weight_scale", ".scale_weight", ".weight_scale_inv")
_STRAYS = (".input_scale", "scaled_fp8", ".comfy_quant")  # of other programs; weights do not depend on them
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


class TextProjection(nn.Module):
    """The two frozen layers of the transformer that read text states, by themselves."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.llm_cond_norm = RMSNorm(width, eps=1e-6, elementwise_affine=True)
        self.llm_cond_proj = nn.Linear(width, hidden)


def read_transformer(folder: Path, device: torch.device, dtype: torch.dtype) -> Ideogram4Transformer2DModel:
    """Reads the frozen network onto the device. Raises WeightsMissing for files in a layout that is not known."""
    if quantisation(folder) == "bitsandbytes":
        network = Ideogram4Transformer2DModel.from_pretrained(folder, dtype=dtype, device_map={"": device})
    elif _plain(folder):
        network = Ideogram4Transformer2DModel.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    else:
        network = _converted(folder, dtype).to(device)
    pin_rotary(network)
    ready: Ideogram4Transformer2DModel = network.eval().requires_grad_(False)
    return ready


def read_text_projection(folder: Path, device: torch.device, dtype: torch.dtype) -> TextProjection | None:
    """Reads the text projection alone, or None where it is quantised and comes with the whole network only."""
    names = ("llm_cond_norm.weight", "llm_cond_proj.weight", "llm_cond_proj.bias")
    if quantisation(folder) == "bitsandbytes":
        return None
    found = dict(diffusers_tensors(folder, dtype, only=names))
    hidden, width = found["llm_cond_proj.weight"].shape
    projection = TextProjection(width, hidden)
    projection.load_state_dict(found)
    return projection.to(device, dtype).eval().requires_grad_(False)


def _plain(folder: Path) -> bool:
    """Whether diffusers reads these files as they are: its own names, no eight-bit numbers."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118
                if _plain_name(key) != key or ".qkv." in key or key.endswith(".attention.o.weight"):
                    return False
                if opened.get_slice(key).get_dtype().startswith("F8"):
                    return False
    return True


def _converted(folder: Path, dtype: torch.dtype) -> Ideogram4Transformer2DModel:
    config = read_json(folder / "config.json")
    config.pop("quantization_config", None)
    with torch.device("meta"):
        network = Ideogram4Transformer2DModel.from_config(config)
    found = dict(diffusers_tensors(folder, dtype))
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(found))
    strange = sorted(set(found) - set(wanted))
    wrong = sorted(name for name in wanted if name in found and found[name].shape != wanted[name].shape)
    for problem, names in (("lack", missing), ("do not belong there", strange), ("have another shape", wrong)):
        if names:
            raise WeightsMissing(
                f"The files in {folder} are not Ideogram 4's: {problem}: {', '.join(names[:3])}.", remedy=_READABLE
            )
    network.load_state_dict(found, assign=True)
    network.rotary_emb.inv_freq = torch.empty(0)  # not in any file; pin_rotary computes it
    return network


def diffusers_tensors(
    folder: Path, dtype: torch.dtype, *, only: tuple[str, ...] = ()
) -> Iterator[tuple[str, torch.Tensor]]:
    """Reads the weights of a folder's files under diffusers' names, in `dtype`; eight-bit ones times their scales."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            keys = {_plain_name(key): key for key in opened.keys()}  # noqa: SIM118
            for name, key in keys.items():
                stray = name.endswith((*_SCALE_NAMES, *_STRAYS)) or name.startswith(_STRAYS[1])
                if not stray and (not only or name in only):
                    yield from _split(name, _scaled(name, opened.get_tensor(key), keys, opened).to(dtype))


def _plain_name(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _scaled(name: str, weight: torch.Tensor, keys: Mapping[str, str], opened: Any) -> torch.Tensor:
    if weight.dtype not in _EIGHT_BITS:
        return weight
    stem = name.removesuffix(".weight")
    for scale_name in (*(stem + suffix for suffix in _SCALE_NAMES), f"{name}_scale"):
        if scale_name in keys:
            scale = opened.get_tensor(keys[scale_name]).float()
            # One number for the matrix, or one for each row of outputs.
            exact: torch.Tensor = weight.float() * (scale if scale.numel() == 1 else scale.reshape(-1, 1))
            return exact
    raise WeightsMissing(f"{name} is in fp8 without a scale.", remedy=_READABLE)


def _split(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of the original layout as diffusers has it: qkv in three, o renamed, the rest as it is."""
    if ".attention.qkv." in name:
        for which, part in zip(("to_q", "to_k", "to_v"), weight.chunk(3), strict=True):
            yield name.replace(".qkv.", f".{which}."), part.contiguous()
    else:
        yield name.replace(".attention.o.", ".attention.to_out.0."), weight
