"""Which layer of a FLUX transformer a key means, whoever wrote it.

Two families of names exist: the original code's (double_blocks.0.img_attn.qkv, several layers fused into one) and
diffusers' (transformer_blocks.0.attn.to_q). Trainers put their own prefix before either, and some write underscores for
the dots. Here all of them are looked up without prefix and with underscores; one table serves reading and writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
_OUTSIDE = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
# The original code gives shift before scale there, diffusers scale before shift.
_SWAPPED = "final_layer.adaLN_modulation.1"
# x-flux names its attention processors; OneTrainer numbers img_in's one layer.
_OTHER_DOUBLE = {
    "processor.qkv_lora1": _DOUBLE["img_attn.qkv"],
    "processor.proj_lora1": _DOUBLE["img_attn.proj"],
    "processor.qkv_lora2": _DOUBLE["txt_attn.qkv"],
    "processor.proj_lora2": _DOUBLE["txt_attn.proj"],
}
_OTHER_SINGLE = {"processor.qkv_lora": _SINGLE["linear1"][:3], "processor.proj_lora": _SINGLE["linear2"]}
_OTHER_OUTSIDE = {"img_in.proj": _OUTSIDE["img_in"]}

_PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "lora_unet_", "lora_transformer_", "lycoris_")
_BLOCK = re.compile(r"(double_blocks|transformer_blocks|single_blocks|single_transformer_blocks)_(\d{1,4})_(.+)")
_TEXT = re.compile(r"(lora_te\d?_|text_encoder|clip_l\.|t5\.|bundle_emb|base_model\.model\.text_)")
# The MLP of a FLUX block is four times as wide as the block.
_MLP_RATIO = 4


@dataclass(frozen=True)
class Place:
    """The transformer's layers, by diffusers' names, whose outputs a file's layer stacks, in that order."""

    layers: tuple[str, ...]
    swapped: bool = False  # its output's halves are in the other order


def place_of(name: str) -> Place | None:
    """What a layer is called without its `.lora_A.weight`; None for a name that FLUX.1 has not."""
    flat = _bare(name).replace(".", "_")
    if block := _BLOCK.fullmatch(flat):
        kind, number, part = block[1], int(block[2]), block[3]
        single = kind.startswith("single")
        layers = (_FLAT_SINGLE if single else _FLAT_DOUBLE).get(part)
        stem = f"{'single_' if single else ''}transformer_blocks.{number}"
        return Place(tuple(f"{stem}.{layer}" for layer in layers)) if layers else None
    layers = _FLAT_OUTSIDE.get(flat)
    return Place(layers, swapped=flat == _SWAPPED.replace(".", "_")) if layers else None


def is_text(key: str) -> bool:
    """Whether a key belongs to a text encoder."""
    return _TEXT.match(key) is not None


def originals(layers: Iterable[str]) -> dict[str, Place]:
    """The original code's layers that hold these, in order of appearance; a fused one lists all that it stacks."""
    found: dict[str, Place] = {}
    for layer in layers:
        parts = layer.split(".")
        blocked = parts[0] in ("transformer_blocks", "single_transformer_blocks")
        part = ".".join(parts[2:]) if blocked else layer
        stem = f"{'double' if parts[0] == 'transformer_blocks' else 'single'}_blocks.{parts[1]}." if blocked else ""
        table = {"double": _DOUBLE, "single": _SINGLE}[stem[:6]] if blocked else _OUTSIDE
        original = next(name for name, held in table.items() if part in held)
        place = place_of(stem + original)
        assert place is not None
        found[stem + original] = place
    return found


def outputs(layers: Iterable[str], width: int) -> list[int]:
    """How many values each of a fused layer's parts puts out, in a model this wide."""
    return [width * _MLP_RATIO if layer.endswith("proj_mlp") else width for layer in layers]


def form_of(key: str) -> str:
    """Whose naming a key follows, in words."""
    for start, form in (
        ("lora_unet_", "kohya's form"),
        ("lora_transformer_", "OneTrainer's form"),
        ("lycoris_", "LyCORIS' form"),
        ("base_model.model.", "PEFT's form"),
        ("transformer.double_blocks", "OneTrainer's form"),
        ("transformer.single_blocks", "OneTrainer's form"),
        ("transformer.", "diffusers' form"),
    ):
        if key.startswith(start):
            return form
    if ".processor." in key:
        return "x-flux's form"
    return "ComfyUI's form" if key.startswith("diffusion_model.") else "a form without prefix"


def _bare(name: str) -> str:
    """Without any prefix; some files have two."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _flat(*tables: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Every way to name a part, with underscores: fused, numbered within the fused (OneTrainer), and diffusers'."""
    known: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for original, layers in table.items():
            known[original] = layers
            known |= {layer: (layer,) for layer in layers}
            if len(layers) > 1:
                known |= {f"{original}.{number}": (layer,) for number, layer in enumerate(layers)}
    return {name.replace(".", "_"): layers for name, layers in known.items()}


_FLAT_DOUBLE = _flat(_DOUBLE, _OTHER_DOUBLE)
_FLAT_SINGLE = _flat(_SINGLE, _OTHER_SINGLE)
_FLAT_OUTSIDE = _flat(_OUTSIDE, _OTHER_OUTSIDE)
