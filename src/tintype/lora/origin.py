"""Guesses which model a LoRA was made for when it does not fit: a refusal that names it saves an hour of searching.

One row for each model, the first that fits counts. Where models share their layers' names, sizes tell them apart; where
they share those too, a row names them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tintype.lora.keys import KEY, Entry, LoraKeys, is_text, plain

TEXT_ONLY = "text encoders only"
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z]|3P)")  # StableDiffusion3Pipeline: where its words begin
_HEADER = ("modelspec.architecture", "ss_base_model_version")  # where trainers name the model
_UNET = r"^(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)_"
_TEXT_WIDTH = _UNET + r"\w*attn2_to_[kv]_"
_JOINT = r"^transformer_blocks_\d+_attn_(to|add)_"
_CROSS = r"^transformer_blocks_\d+_attn[12]_to_"
_WAN = r"^blocks_\d+_((self_attn|cross_attn)_([qkvo]|[kv]_img)|attn[12]_(to|add)|ffn)_"
_FLUX = r"^(double|single)_blocks_\d+_(img|txt|linear)|" + _JOINT
_LAYERS = r"^(layers|noise_refiner|context_refiner)_\d+_(attn|attention|feed_forward)_"


class Model(NamedTuple):
    """What tells a model: a key without prefix and dots, a size of that layer's, or what a file's header says."""

    name: str
    key: str = ""
    size: int = 0  # of the layer's input or output; 0: any
    header: str = ""


MODELS = (
    # U-Nets. Only the width of the text tells them for sure.
    Model("Stable Diffusion XL", _TEXT_WIDTH, 2048, r"stable-diffusion-xl|sdxl|\bpony|illustrious"),
    Model("Stable Diffusion 1.5", _TEXT_WIDTH, 768, r"stable-diffusion-v1|\bsd_?(v1|1\.)"),
    Model("Stable Diffusion 2", _TEXT_WIDTH, 1024, r"stable-diffusion-v2|\bsd_?(v2|2\.)"),
    Model("Stable Diffusion XL", _UNET + r"\w*transformer_blocks_[1-9]|^up_blocks_0_attentions|^output_blocks_[01]_1_"),
    Model("Stable Diffusion 1.5 or 2", r"^(down_blocks_0|up_blocks_3)_attent|^(input_blocks_[12]|output_blocks_9)_1_",
          0, r"stable-diffusion-(inpaint-|img-2-img-)?pipeline"),
    Model("Stable Cascade", r"^lora_prior_|^(down|up)_blocks_\d_\d+_attention_attn_", 0, "cascade"),
    Model("Stable Diffusion XL, 1.5 or 2", _UNET),
    # One stream that looks at the text.
    Model("Anima", "^llm_adapter_", 0, "anima"),
    Model("Cosmos", r"^blocks_\d+_\w+_attn_(q|k|v|output)_proj|_adaln_modulation_(\w+_attn|mlp)_", 0, "cosmos"),
    Model("Cosmos", r"^transformer_blocks_\d+_norm[123]_linear_[12]_"),
    Model("Cosmos", r"^transformer_blocks_\d+_attn2_to_[kv]_", 1024),
    Model("LTX-2", "_audio_(attn|ff|to_video)|video_to_audio", 0, r"ltx.?2(?!\d)"),
    Model("LTX-Video", _CROSS, 2048, "ltx"),
    Model("LTX-Video or LTX-2", r"^transformer_blocks_\d+_attn2_to_", 4096),
    Model("Mochi", r"^transformer_blocks_(\d+_attn1_(add|to_add)|4[2-7]_attn1)_|attn_qkv_[xy]_", 3072, "mochi"),
    Model("CogVideoX", _CROSS, 1920, "cogvideo"),
    Model("CogVideoX", _CROSS, 3072),
    Model("CogView4", _CROSS, 4096, "cogview"),
    Model("CogView3", _CROSS, 2560),
    Model("Allegro", _CROSS, 2304),
    Model("PixArt", _CROSS, 1152, "pixart"),
    Model("Sana", _CROSS, 2240, r"\bsana"),
    Model("PixArt or Sana", r"cross_attn_(q|kv)_linear"),
    Model("Hunyuan-DiT", _WAN, 1408, "hunyuan.?dit"),
    Model("Wan 2.2 (5B)", _WAN, 3072),
    Model("Wan 2.1 or 2.2 (14B)", _WAN, 5120),
    Model("Wan 2.1 (1.3B)", _WAN, 1536),
    Model("Wan", _WAN, 0, r"\bwan"),
    Model("Kandinsky", r"^(visual|text|video_text)_transformer_blocks_", 0, "kandinsky"),
    # Bare layers.
    Model("Ideogram 4", _LAYERS, 4608),
    Model("Z-Image", _LAYERS, 3840, "z.?image"),
    Model("Lumina 2", _LAYERS, 2304, "lumina"),
    Model("OmniGen2", _LAYERS, 2520, "omnigen"),
    Model("ERNIE-Image", r"^layers_\d+_self_attention_to_"),
    Model("ACE-Step", r"^layers_\d+_cross_attn_([qkvo]_proj|to_)", 0, r"ace.?step"),
    Model("a language model", r"^layers_\d+_(self_attn_[qkvo]_proj|mlp_(gate|up|down)_proj)"),
    # Two streams of tokens that attend to each other.
    Model("Krea 2", r"^text_?fusion_|^txtfusion_|^blocks_\d+_attn_w[qkvo]_|attn_to_gate_"),
    Model("Stable Diffusion 3.5 Large", r"^joint_blocks_\d+_|" + _JOINT, 2432, r"(stable-diffusion-|sd)3\.5-large"),
    Model("Stable Diffusion 3.5 Medium", r"x_block_attn2|^transformer_blocks_\d+_attn2_", 1536,
          r"(stable-diffusion-|sd)3\.5-medium"),
    Model("Stable Diffusion 3 or 3.5 Medium", r"^joint_blocks_\d+_|" + _JOINT, 1536, "stable-diffusion-3|sd3"),
    Model("Stable Diffusion 3 or 3.5", r"^joint_blocks_\d+_"),
    Model("AuraFlow", r"^joint_transformer_blocks_|^(double|single)_layers_\d+_", 0, "auraflow"),
    Model("Qwen-Image", r"^transformer_blocks_\d+_(img|txt)_(mlp|mod)_", 0, "qwen.?image"),
    Model("Qwen-Image", r"^transformer_blocks_[2-5]\d_attn_(to|add)_", 3072),
    Model("Qwen-Image 2.1", r"^transformer_blocks_(8|9|\d\d)_attn_to_", 4096),
    Model("HiDream", r"^(double|single)_stream_blocks_", 0, "hidream"),
    Model("HunyuanImage", _FLUX, 3584, "hunyuan.?image"),
    Model("HunyuanVideo", r"(img|txt)_mlp_fc[12]_|(img|txt)_mod_linear|token_refiner", 0, "hunyuan.?video|framepack"),
    Model("HunyuanVideo", r"^(double|transformer)_blocks_19_(img_)?attn_|^single_(transformer_)?blocks_3[89]_", 3072),
    Model("FLUX.3", "^mode_blocks_"),
    Model("FLUX.2 [dev]", _FLUX, 6144, r"flux.?2.?dev"),
    Model("FLUX.2 [klein] 9B", _FLUX, 4096, r"flux.?2.?klein.?9b"),
    Model("FLUX.2 [klein] 4B", r"^single_blocks_\d+_linear1|to_qkv_mlp_proj", 27648, r"flux.?2.?klein.?4b"),
    Model("FLUX.2", r"to_qkv_mlp_proj|^(double|single)_stream_modulation|_ff(_context)?_linear_(in|out)", 0,
          r"flux[._-]?2(?!\d)"),
    Model("Chroma", "^distilled_guidance_layer|^nerf_", 0, "chroma"),
    # FLUX.1 and what was made of it: some take more channels in, others have its very layers.
    Model("FLUX.1 Canny or Depth [dev]", r"^(x_embedder|img_in)_", 128, "flux.*(canny|depth)"),
    Model("FLUX.1 Fill [dev]", r"^(x_embedder|img_in)_", 384, "flux.*fill"),
    Model("FLUX.1 Kontext [dev]", header="kontext"),
    Model("FLUX.1 [schnell]", header="schnell"),
    Model("FLUX.1", r"^single_transformer_blocks_|" + _FLUX, 3072),
)  # fmt: skip


def guess(entries: Mapping[str, Entry], known: Iterable[LoraKeys] = (), header: Mapping[str, str] | None = None) -> str:
    """Names the model that a file is for, as far as its header and keys tell; empty if they do not.

    `known` are tables of base models, for one whose layers no row tells.
    """
    if entries and all(is_text(key) for key in entries):
        return TEXT_ONLY
    if said := declared(header or {}):
        return said
    layers = [(plain(key), _sizes(key, entry)) for key, entry in entries.items() if not is_text(key)]
    for model in (model for model in MODELS if model.key):
        pattern = re.compile(model.key)
        if any((not model.size or model.size in sizes) and pattern.search(key) for key, sizes in layers):
            return model.name
    for keys in known:
        for key in entries:
            found = KEY.fullmatch(key)
            if found and found["down"] and keys.place_of(found["name"]):
                return keys.model
    return ""


def declared(header: Mapping[str, str]) -> str:
    """Names the model that a file's header says it is for, if it is in the table."""
    return named(" ".join(header.get(entry, "") for entry in _HEADER))


def named(text: str) -> str:
    """Names the model of the table that a text speaks of: a header, a repository's name, or a class of diffusers."""
    said = _HUMP.sub("-", text).lower()
    return next((model.name for model in MODELS if model.header and re.search(model.header, said)), "")


def _sizes(key: str, entry: Entry) -> tuple[int, ...]:
    """The sizes of its layer that a tensor tells: a factor has only one of them, its other side is the rank."""
    found = KEY.fullmatch(key)
    if found and (found["down"] or found["up"]):
        return entry.shape[1:2] if found["down"] else entry.shape[:1]
    return entry.shape[:2]
