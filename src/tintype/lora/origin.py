"""Guesses which model a LoRA was made for when it does not fit: a refusal that names it saves an hour of searching."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tintype.lora.flux_names import is_text
from tintype.lora.tensor_file import Entry, shown

# Told by names alone; the first that some key contains.
_BY_NAME = (
    (r"to_qkv_mlp_proj|double_stream_modulation|single_stream_modulation", "FLUX.2"),
    (r"img_mlp[._]net|txt_mlp[._]net|img_mod[._]1[._]", "Qwen-Image"),
    (r"(img|txt)_mlp[._]fc1|individual_token_refiner", "HunyuanVideo"),
    (r"joint_blocks", "Stable Diffusion 3"),
    (r"blocks[._]\d+[._](self_attn|cross_attn)[._]", "Wan"),
    (r"distilled_guidance_layer", "Chroma"),
    (r"transformer_blocks[._]\d+[._]attn1[._]", "LTX-Video or PixArt"),
)
_UNET = re.compile(r"(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_CROSS = re.compile(r"attn2[._]to_[kv]\.(lora_A|lora_down|lora\.down|down)")
_UNETS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
_LAYERS = re.compile(r"layers[._]\d+[._](attention|feed_forward)[._].+\.(lora_A|lora_down)")
_SINGLE_STREAMS = {4608: "Ideogram 4", 3840: "Z-Image", 2304: "Lumina 2"}
# Transformers whose layers have the same names as FLUX.1's, told by their width.
_TWINS = {1536: "Stable Diffusion 3", 2432: "Stable Diffusion 3.5 large", 3072: "FLUX.1", 4096: "FLUX.2 [klein] 9B",
          6144: "FLUX.2 [dev]"}  # fmt: skip
_SAMPLES = 3


def guess(entries: Mapping[str, Entry]) -> str:
    """The model that a file without a FLUX.1 layer is for, as far as its keys tell; empty if they do not."""
    if entries and all(is_text(key) for key in entries):
        return "text encoders only, which are not trained or used here"
    for pattern, name in _BY_NAME:
        if any(re.search(pattern, key) for key in entries):
            return name
    if any(_UNET.search(key) for key in entries):
        return _by_width(entries, _CROSS, _UNETS) or "Stable Diffusion 1, 2 or XL"
    return _by_width(entries, _LAYERS, _SINGLE_STREAMS)


def twin(width: int) -> str:
    """Whose layers are this wide among the models that share FLUX.1's names; empty if none known is."""
    return _TWINS.get(width, "")


def some(keys: Iterable[str]) -> str:
    """The first few keys, for a sentence."""
    named = list(keys)
    return ", ".join(shown(key) for key in named[:_SAMPLES]) + (", …" if len(named) > _SAMPLES else "")


def _by_width(entries: Mapping[str, Entry], pattern: re.Pattern[str], widths: Mapping[int, str]) -> str:
    for key, entry in entries.items():
        if len(entry.shape) >= 2 and pattern.search(key) and entry.shape[1] in widths:
            return widths[entry.shape[1]]
    return ""
