"""What LoRA files call Ideogram 4's layers, and the forms in which this base model's LoRAs are handed over.

`fal` has the keys of `comfy`: which prefix fal's files use is not published, and diffusers reads this one. (It reads
kohya's keys as nothing at all, and goes on without a LoRA.)
"""

from __future__ import annotations

from tintype.lora.keys import DIFFUSERS, KOHYA, Block, Form, LoraKeys

_PARTS = {
    "attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
    "attention.o": ("attention.to_out.0",),
    **{name: (name,) for name in ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaln_modulation")},
}
_NORMS = ("attention.norm_q", "attention.norm_k", "attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")
_A_B = ("lora_A", "lora_B")

IDEOGRAM_KEYS = LoraKeys(
    model="Ideogram 4",
    original_code="https://github.com/ideogram-oss/ideogram4",
    forms=(DIFFUSERS, Form("comfy", "diffusion_model.", _A_B), KOHYA, Form("fal", "diffusion_model.", _A_B)),
    blocks=(Block("layers", "layers", _PARTS, {name: (name,) for name in _NORMS}),),
    facts={"modelspec.architecture": "ideogram-4/lora", "ss_base_model_version": "ideogram4"},
    shares_down=True,
    remedy="Send an Ideogram 4 LoRA as safetensors, in diffusers', ComfyUI's, kohya's or fal's form.",
)
