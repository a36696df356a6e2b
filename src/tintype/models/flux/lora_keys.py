"""What LoRA files call FLUX.1's layers, and the forms in which this base model's LoRAs are handed over."""

from __future__ import annotations

from tintype.lora.keys import DIFFUSERS, KOHYA, Block, Form, LoraKeys

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
# x-flux names its attention processors; OneTrainer numbers img_in's one layer.
_DOUBLE_PROCESSORS = {
    "processor.qkv_lora1": _DOUBLE["img_attn.qkv"],
    "processor.proj_lora1": _DOUBLE["img_attn.proj"],
    "processor.qkv_lora2": _DOUBLE["txt_attn.qkv"],
    "processor.proj_lora2": _DOUBLE["txt_attn.proj"],
}
_SINGLE_PROCESSORS = {"processor.qkv_lora": _SINGLE["linear1"][:3], "processor.proj_lora": _SINGLE["linear2"]}
# Layers that are no matrices, which no LoRA has but files with differences may.
_DOUBLE_NORMS = {
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
}
_SINGLE_NORMS = {"norm.query_norm": ("attn.norm_q",), "norm.key_norm": ("attn.norm_k",)}
_CLIP = (*(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2")
_T5 = (
    *(f"layer.0.SelfAttention.{part}" for part in "qkvo"),
    *(f"layer.1.DenseReluDense.{part}" for part in ("wi_0", "wi_1", "wo")),
)

FLUX_KEYS = LoraKeys(
    model="FLUX.1",
    original_code="https://github.com/black-forest-labs/flux",
    forms=(DIFFUSERS, KOHYA, Form("comfy", "diffusion_model.")),
    blocks=(
        Block("double_blocks", "transformer_blocks", _DOUBLE, _DOUBLE_PROCESSORS | _DOUBLE_NORMS),
        Block("single_blocks", "single_transformer_blocks", _SINGLE, _SINGLE_PROCESSORS | _SINGLE_NORMS),
        Block("encoder_layers", "text_encoder.encoder.layers", {part: (part,) for part in _CLIP}),
        Block("encoder_block", "text_encoder_2.encoder.block", {part: (part,) for part in _T5}),
    ),
    # The original code gives shift before scale in its last layer, diffusers scale before shift.
    outside=Block("", "", _OUTSIDE, {"img_in.proj": _OUTSIDE["img_in"]}, swapped=("final_layer.adaLN_modulation.1",)),
    wider={"proj_mlp": 4},
    facts={
        "modelspec.architecture": "flux-1-dev/lora",
        "ss_base_model_version": "flux1",
        "ss_network_module": "networks.lora_flux",
    },
)
