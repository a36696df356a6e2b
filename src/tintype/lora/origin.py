"""Guesses which model a LoRA was made for when it does not fit: a refusal that names it saves an hour of searching."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tintype.lora.keys import KEY, LoraKeys, is_text
from tintype.lora.tensor_file import Entry

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


def guess(entries: Mapping[str, Entry], known: Iterable[LoraKeys] = ()) -> str:
    """Names the model that a file is for, as far as its keys tell; empty if they do not.

    `known` are tables of base models; of several with the same names, the width of a layer tells.
    """
    if entries and all(is_text(key) for key in entries):
        return "text encoders only, which are not trained or used here"
    for pattern, name in _BY_NAME:
        if any(re.search(pattern, key) for key in entries):
            return name
    if any(_UNET.search(key) for key in entries):
        widths = (entry.shape[1] for key, entry in entries.items() if _CROSS.search(key) and len(entry.shape) >= 2)
        return next((_UNETS[width] for width in widths if width in _UNETS), "Stable Diffusion 1, 2 or XL")
    for keys in known:
        for key, entry in entries.items():
            found = KEY.fullmatch(key)
            if found and found["down"] and len(entry.shape) >= 2 and keys.place_of(found["name"]):
                return keys.twins.get(entry.shape[1], keys.model)
    return ""
