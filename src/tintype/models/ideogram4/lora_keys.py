"""What LoRA files call Ideogram 4's layers, and the forms in which this base model's LoRAs are handed over.

diffusers reads kohya's keys as nothing at all and goes on without a LoRA: reading here either matches every layer or
fails. `fal` has the keys of `comfy`: which prefix fal's files use is not published, and diffusers reads this one.
"""

from __future__ import annotations

from tintype.lora.keys import DIFFUSERS, KOHYA, Block, Form, LoraKeys

_PARTS = {
    "attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
    "attention.o": ("attention.to_out.0",),
    **{name: (name,) for name in ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaln_modulation")},
}
_A_B = ("lora_A", "lora_B")

IDEOGRAM_KEYS = LoraKeys(
    model="Ideogram 4",
    original_code="https://github.com/ideogram-oss/ideogram4",
    forms=(DIFFUSERS, Form("comfy", "diffusion_model.", _A_B), KOHYA, Form("fal", "diffusion_model.", _A_B)),
    blocks=(Block("layers", "layers", _PARTS),),
    facts={"modelspec.architecture": "ideogram-4/lora", "ss_base_model_version": "ideogram4"},
    twins={4608: "Ideogram 4", 3840: "Z-Image", 2304: "Lumina 2"},
    whole=True,
    shares_down=True,
    remedy="Send an Ideogram 4 LoRA as safetensors, in diffusers', ComfyUI's, kohya's or fal's form.",
)
