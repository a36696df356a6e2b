"""LoRA files as other trainers write them, for a FLUX of one double and one single block.

Names are spelled out here as those projects print them, not derived from the table under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH = 8
RANK = 2

# (out, in) of every layer that trainers train, by diffusers' names.
SHAPES = {
    **{f"transformer_blocks.0.attn.{name}": (WIDTH, WIDTH) for name in (
        "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")},
    **{f"transformer_blocks.0.{name}.net.0.proj": (4 * WIDTH, WIDTH) for name in ("ff", "ff_context")},
    **{f"transformer_blocks.0.{name}.net.2": (WIDTH, 4 * WIDTH) for name in ("ff", "ff_context")},
    **{f"single_transformer_blocks.0.attn.{name}": (WIDTH, WIDTH) for name in ("to_q", "to_k", "to_v")},
    "single_transformer_blocks.0.proj_mlp": (4 * WIDTH, WIDTH),
    "single_transformer_blocks.0.proj_out": (WIDTH, 5 * WIDTH),
}  # fmt: skip

# The original code's layers and the shapes they have there.
FUSED = {
    "double_blocks.0.img_attn.qkv": (3 * WIDTH, WIDTH),
    "double_blocks.0.img_attn.proj": (WIDTH, WIDTH),
    "double_blocks.0.img_mlp.0": (4 * WIDTH, WIDTH),
    "double_blocks.0.img_mlp.2": (WIDTH, 4 * WIDTH),
    "double_blocks.0.txt_attn.qkv": (3 * WIDTH, WIDTH),
    "double_blocks.0.txt_attn.proj": (WIDTH, WIDTH),
    "double_blocks.0.txt_mlp.0": (4 * WIDTH, WIDTH),
    "double_blocks.0.txt_mlp.2": (WIDTH, 4 * WIDTH),
    "single_blocks.0.linear1": (7 * WIDTH, WIDTH),
    "single_blocks.0.linear2": (WIDTH, 5 * WIDTH),
}
# Which rows of which of those a diffusers layer is.
ROWS = {
    **{f"transformer_blocks.0.attn.{name}": (f"double_blocks.0.{stream}_attn.qkv", number)
       for stream, names in (("img", ("to_q", "to_k", "to_v")), ("txt", ("add_q_proj", "add_k_proj", "add_v_proj")))
       for number, name in enumerate(names)},
    "transformer_blocks.0.attn.to_out.0": ("double_blocks.0.img_attn.proj", 0),
    "transformer_blocks.0.attn.to_add_out": ("double_blocks.0.txt_attn.proj", 0),
    "transformer_blocks.0.ff.net.0.proj": ("double_blocks.0.img_mlp.0", 0),
    "transformer_blocks.0.ff.net.2": ("double_blocks.0.img_mlp.2", 0),
    "transformer_blocks.0.ff_context.net.0.proj": ("double_blocks.0.txt_mlp.0", 0),
    "transformer_blocks.0.ff_context.net.2": ("double_blocks.0.txt_mlp.2", 0),
    **{f"single_transformer_blocks.0.{name}": ("single_blocks.0.linear1", number)
       for number, name in enumerate(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"))},
    "single_transformer_blocks.0.proj_out": ("single_blocks.0.linear2", 0),
}  # fmt: skip


class Base(torch.nn.Module):
    """A transformer's outside: linear layers with FLUX's names."""

    def __init__(self, shapes: dict[str, tuple[int, int]] = SHAPES) -> None:
        super().__init__()
        for name, (out, into) in shapes.items():
            at: torch.nn.Module = self
            *way, last = name.split(".")
            for part in way:
                if not hasattr(at, part):
                    at.add_module(part, torch.nn.Module())
                at = getattr(at, part)
            at.add_module(last, torch.nn.Linear(into, out))


Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def factors(shapes: Mapping[str, tuple[int, int]], rank: int = RANK, seed: int = 0) -> Factors:
    """(down, up) of each layer."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(rank, into, generator=generator), torch.randn(out, rank, generator=generator))
        for name, (out, into) in shapes.items()
    }


def keyed(
    prefix: str, made: Factors, down: str, up: str, *, alpha: float | None, dots: bool
) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (first, second) in made.items():
        stem = prefix + (name if dots else name.replace(".", "_"))
        tensors[f"{stem}.{down}.weight"], tensors[f"{stem}.{up}.weight"] = first, second
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    return tensors


def rows_of(change: torch.Tensor, number: int, out: int) -> torch.Tensor:
    return change[number * WIDTH : number * WIDTH + out]


def fused_changes(made: Factors, scale: float) -> dict[str, torch.Tensor]:
    """What each diffusers layer's weight changes by, of a LoRA over the fused layers."""
    return {
        name: rows_of(scale * made[fused][1] @ made[fused][0], number, SHAPES[name][0])
        for name, (fused, number) in ROWS.items()
        if fused in made
    }


def separate_changes(made: Factors, scale: float) -> dict[str, torch.Tensor]:
    return {name: scale * up @ down for name, (down, up) in made.items()}


def every_peer() -> dict[str, tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Each trainer's file and the changes it stands for."""
    fused, apart = factors(FUSED), factors(SHAPES, seed=1)
    half, plain = RANK / 2, None
    numbered = {
        f"{fused_name}.{number}" if fused_name.endswith(("qkv", "linear1")) else fused_name: apart[name]
        for name, (fused_name, number) in ROWS.items()
    }
    attention = {name: pair for name, pair in fused.items() if "double" in name and "attn" in name}
    xflux = {
        name.replace("img_attn.", "processor.").replace("txt_attn.", "processor.")
        + ("_lora1" if "img" in name else "_lora2"): pair
        for name, pair in attention.items()
    }
    down_up, a_b = ("lora_down", "lora_up"), ("lora_A", "lora_B")
    return {
        "kohya sd-scripts": (keyed("lora_unet_", fused, *down_up, alpha=half, dots=False), fused_changes(fused, 0.5)),
        "ComfyUI": (keyed("diffusion_model.", fused, *down_up, alpha=half, dots=True), fused_changes(fused, 0.5)),
        "ai-toolkit, original names": (
            keyed("diffusion_model.", fused, *a_b, alpha=plain, dots=True), fused_changes(fused, 1.0)),
        "ai-toolkit": (keyed("transformer.", apart, *a_b, alpha=plain, dots=True), separate_changes(apart, 1.0)),
        "ai-toolkit, early": (
            keyed("transformer.", apart, *down_up, alpha=half, dots=True), separate_changes(apart, 0.5)),
        "diffusers, early": (
            keyed("transformer.", apart, "lora.down", "lora.up", alpha=plain, dots=True), separate_changes(apart, 1.0)),
        "PEFT": (keyed("base_model.model.", apart, *a_b, alpha=plain, dots=True), separate_changes(apart, 1.0)),
        "PEFT with its adapter's name": (
            keyed("base_model.model.", apart, "lora_A.default", "lora_B.default", alpha=plain, dots=True),
            separate_changes(apart, 1.0)),
        "PEFT, original names": (
            keyed("base_model.model.", fused, *a_b, alpha=plain, dots=True), fused_changes(fused, 1.0)),
        "OneTrainer": (
            keyed("lora_transformer_", apart, *down_up, alpha=half, dots=False), separate_changes(apart, 0.5)),
        "OneTrainer, original names": (
            keyed("transformer.", numbered, *down_up, alpha=half, dots=True), separate_changes(apart, 0.5)),
        "SimpleTuner's LyCORIS": (
            keyed("lycoris_", apart, *down_up, alpha=half, dots=False), separate_changes(apart, 0.5)),
        "DiffSynth, without prefix": (keyed("", apart, *a_b, alpha=plain, dots=True), separate_changes(apart, 1.0)),
        "x-flux": (keyed("", xflux, "down", "up", alpha=plain, dots=True), fused_changes(attention, 1.0)),
    }  # fmt: skip


def written(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata=metadata)
    return path
