"""A file that does not fit is told whose it is."""

from __future__ import annotations

import pytest

from tintype.lora.origin import guess
from tintype.lora.tensor_file import Entry
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS


@pytest.mark.parametrize(
    ("key", "into", "model"),
    [
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", 768, "Diffusion 1"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", 1024, "Diffusion 2"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", 2048, "Diffusion XL"),
        ("lora_unet_mid_block_resnets_0_conv1.lora_down.weight", 320, "Diffusion 1, 2 or XL"),
        ("transformer.layers.0.attention.to_q.lora_A.weight", 4608, "Ideogram 4"),
        ("diffusion_model.layers.0.attention.qkv.lora_A.weight", 4608, "Ideogram 4"),
        ("transformer.layers.0.attention.to_q.lora_A.weight", 3840, "Z-Image"),
        ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight", 6144, "FLUX.2"),
        ("lora_unet_double_blocks_0_img_mlp_fc1.lora_down.weight", 3072, "HunyuanVideo"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", 1536, "Diffusion 3"),
        ("transformer.transformer_blocks.0.img_mlp.net.0.proj.lora_A.weight", 3072, "Qwen"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", 3072, "FLUX.1"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", 2432, "Diffusion 3.5"),
        ("diffusion_model.blocks.0.self_attn.q.lora_A.weight", 5120, "Wan"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 768, "text encoders"),
        ("conv.weight", 3, ""),
    ],
)
def test_models_are_told_by_name_and_width(key: str, into: int, model: str) -> None:
    said = guess({key: Entry("F32", (4, into))}, [FLUX_KEYS, IDEOGRAM_KEYS])
    assert model in said
    assert bool(said) == bool(model)


def test_only_the_base_models_that_are_asked_about_are_known_by_their_layers() -> None:
    entries = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": Entry("F32", (4, 17))}
    assert guess(entries, [IDEOGRAM_KEYS, FLUX_KEYS]) == "FLUX.1"
    assert guess(entries, [IDEOGRAM_KEYS]) == ""
