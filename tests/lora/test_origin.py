"""A file that does not fit is told whose it is: by the layers of the real architectures, and by the original names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tests.support.peer_loras import factors, keyed, written

from tintype.errors import UnusableAdapter
from tintype.lora.keys import Entry, LoraKeys
from tintype.lora.lora import linear_shapes
from tintype.lora.origin import MODELS, declared, guess
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS

KNOWN = [FLUX_KEYS, IDEOGRAM_KEYS]
XL = {
    "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True,
    "attention_head_dim": (5, 10, 20),
}  # fmt: skip
SD3 = {"num_layers": 24, "num_attention_heads": 24}
# diffusers' classes, with what the real model has other than their defaults.
REAL: list[tuple[str, dict[str, Any], str]] = [
    ("UNet2DCondition", {"cross_attention_dim": 768}, "Stable Diffusion 1.5"),
    ("UNet2DCondition", {"cross_attention_dim": 1024, "use_linear_projection": True}, "Stable Diffusion 2"),
    ("UNet2DCondition", XL, "Stable Diffusion XL"),
    ("SD3Transformer2D", SD3, "Stable Diffusion 3 or 3.5 Medium"),
    ("SD3Transformer2D", {**SD3, "dual_attention_layers": tuple(range(13))}, "Stable Diffusion 3.5 Medium"),
    ("SD3Transformer2D", {"num_layers": 38, "num_attention_heads": 38}, "Stable Diffusion 3.5 Large"),
    ("AuraFlowTransformer2D", {}, "AuraFlow"),
    ("QwenImageTransformer2D", {}, "Qwen-Image"),
    ("FluxTransformer2D", {"guidance_embeds": True}, "FLUX.1"),
    ("Flux2Transformer2D", {}, "FLUX.2 [dev]"),
    ("Flux2Transformer2D", {"num_attention_heads": 32, "num_layers": 8, "num_single_layers": 24}, "FLUX.2 [klein] 9B"),
    ("HunyuanVideoTransformer3D", {}, "HunyuanVideo"),
    ("HunyuanImageTransformer2D", {}, "HunyuanImage"),
    ("MochiTransformer3D", {}, "Mochi"),
    ("CogVideoXTransformer3D", {}, "CogVideoX"),
    ("CogVideoXTransformer3D", {"num_attention_heads": 48, "num_layers": 42}, "CogVideoX"),
    ("CogView4Transformer2D", {"num_attention_heads": 32, "attention_head_dim": 128}, "CogView4"),
    ("LTXVideoTransformer3D", {}, "LTX-Video"),
    ("PixArtTransformer2D", {}, "PixArt"),
    ("SanaTransformer2D", {}, "Sana"),
    ("WanTransformer3D", {"num_layers": 4}, "Wan 2.1 or 2.2 (14B)"),
    ("WanTransformer3D", {"num_layers": 4, "num_attention_heads": 24}, "Wan 2.2 (5B)"),
    ("WanTransformer3D", {"num_layers": 4, "num_attention_heads": 12}, "Wan 2.1 (1.3B)"),
    ("CosmosTransformer3D", {"num_layers": 4}, "Cosmos"),
    ("CosmosTransformer3D", {"num_layers": 4, "num_attention_heads": 16}, "Cosmos"),
    ("ZImageTransformer2D", {}, "Z-Image"),
    ("Lumina2Transformer2D", {}, "Lumina 2"),
    ("Ideogram4Transformer2D", {}, "Ideogram 4"),
    ("Kandinsky5Transformer3D", {}, "Kandinsky"),
]  # fmt: skip
# Names of the original code's layers, as ComfyUI and musubi-tuner keep them, and the input of one.
ORIGINAL = [
    ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048, "Stable Diffusion XL"),
    ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_k", 320, "Stable Diffusion 1.5 or 2"),
    ("lora_unet_output_blocks_0_1_transformer_blocks_0_attn1_to_k", 1280, "Stable Diffusion XL"),
    ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", 640, "Stable Diffusion XL, 1.5 or 2"),
    ("lora_unet_mid_block_resnets_0_conv1", 320, "Stable Diffusion XL, 1.5 or 2"),
    ("diffusion_model.joint_blocks.0.x_block.attn.qkv", 2432, "Stable Diffusion 3.5 Large"),
    ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536, "Stable Diffusion 3 or 3.5 Medium"),
    ("diffusion_model.double_blocks.0.img_attn.qkv", 3072, "FLUX.1"),
    ("diffusion_model.double_blocks.0.img_attn.qkv", 6144, "FLUX.2 [dev]"),
    ("lora_unet_double_blocks_0_img_attn_qkv", 4096, "FLUX.2 [klein] 9B"),
    ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 5120, "FLUX.2"),
    ("diffusion_model.img_in", 128, "FLUX.1 Canny or Depth [dev]"),
    ("transformer.x_embedder", 384, "FLUX.1 Fill [dev]"),
    ("diffusion_model.distilled_guidance_layer.layers.0.in_layer", 5120, "Chroma"),
    ("lora_unet_double_blocks_0_img_mlp_fc1", 3072, "HunyuanVideo"),
    ("diffusion_model.double_blocks.19.img_attn_qkv", 3072, "HunyuanVideo"),
    ("lora_unet_transformer_blocks_0_img_mod_1", 3072, "Qwen-Image"),
    ("diffusion_model.blocks.0.self_attn.q", 5120, "Wan 2.1 or 2.2 (14B)"),
    ("lora_unet_blocks_0_cross_attn_k_img", 1536, "Wan 2.1 (1.3B)"),
    ("diffusion_model.blocks.0.ffn.0", 3072, "Wan 2.2 (5B)"),
    ("diffusion_model.transformer_blocks.0.audio_attn1.to_q", 2048, "LTX-2"),
    ("diffusion_model.blocks.0.self_attn.output_proj", 2048, "Cosmos"),
    ("diffusion_model.llm_adapter.blocks.0.self_attn.q_proj", 1024, "Anima"),
    ("diffusion_model.double_stream_blocks.0.block.attn1.to_q", 2560, "HiDream"),
    ("diffusion_model.layers.0.attention.qkv", 2304, "Lumina 2"),
    ("diffusion_model.layers.0.attention.qkv", 3840, "Z-Image"),
    ("diffusion_model.layers.0.attention.qkv", 4608, "Ideogram 4"),
    ("diffusion_model.double_layers.0.attn.w1q", 3072, "AuraFlow"),
    ("base_model.model.model.layers.0.self_attn.q_proj", 4096, "a language model"),
    ("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, "text encoders only"),
    ("diffusion_model.text_fusion.projector", 2560, "Krea 2"),
    ("diffusion_model.mode_blocks.image.0.attn.to_q", 3072, "FLUX.3"),
    ("lora_prior_unet_down_blocks_0_2_attention_attn_in_proj", 2048, "Stable Cascade"),
    ("transformer.layers.0.attn.to_q", 2520, "OmniGen2"),
    ("transformer.layers.0.self_attention.to_q", 3072, "ERNIE-Image"),
    ("base_model.model.layers.0.cross_attn.q_proj", 2048, "ACE-Step"),
    ("transformer.transformer_blocks.0.attn1.to_q", 2304, "Allegro"),
    ("transformer.transformer_blocks.0.attn1.to_q", 2560, "CogView3"),
    ("transformer.transformer_blocks.0.attn2.to_q", 4096, "LTX-Video or LTX-2"),
    ("transformer.transformer_blocks.9.attn.to_q", 4096, "Qwen-Image 2.1"),
    ("transformer.blocks.0.attn1.to_q", 1408, "Hunyuan-DiT"),
    ("transformer.blocks.0.attn1.to_q", 2048, "Wan"),
    ("lora_unet_blocks_0_cross_attn_q_linear", 1152, "PixArt or Sana"),
    ("lora_unet_joint_blocks_0_x_block_attn_qkv", 64, "Stable Diffusion 3 or 3.5"),
    ("conv", 3, ""),
]  # fmt: skip
HEADERS = [
    ("stable-diffusion-xl-v1-base/lora", "Stable Diffusion XL"), ("sd_v1", "Stable Diffusion 1.5"),
    ("sdxl_base_v1-0", "Stable Diffusion XL"), ("stable-diffusion-v2-768-v/lora", "Stable Diffusion 2"),
    ("stable-diffusion-3.5-large/lora", "Stable Diffusion 3.5 Large"), ("hunyuan-video/lora", "HunyuanVideo"),
    ("flux-1-kontext-dev/lora", "FLUX.1 Kontext [dev]"), ("chroma/lora", "Chroma"), ("lumina-2/lora", "Lumina 2"),
    ("flux-2-dev/lora", "FLUX.2 [dev]"), ("flux-2-klein-4b/lora", "FLUX.2 [klein] 4B"),
    ("qwen-image/lora", "Qwen-Image"), ("wan2.1-t2v-14b/lora", "Wan"),
    ("Flux.1-schnell", "FLUX.1 [schnell]"), ("flux-1-fill-dev/lora", "FLUX.1 Fill [dev]"),
    ("Flux.1-dev/lora", ""), ("flux1", ""), ("flux-1-dev/lora", ""), ("ideogram-4/lora", ""), ("", ""),
]  # fmt: skip


def entries(shapes: dict[str, tuple[int, int]], *, kohya: bool) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, (out, into) in shapes.items():
        stem = f"lora_unet_{name.replace('.', '_')}" if kohya else f"transformer.{name}"
        down, up = ("lora_down", "lora_up") if kohya else ("lora_A", "lora_B")
        found |= {f"{stem}.{down}.weight": Entry("F32", (16, into)), f"{stem}.{up}.weight": Entry("F32", (out, 16))}
    return found


@pytest.mark.parametrize(("kind", "changed", "model"), REAL)
def test_each_architecture_is_told_by_all_its_layers_and_by_its_attention_alone(
    kind: str, changed: dict[str, Any], model: str
) -> None:
    with torch.device("meta"):
        shapes = linear_shapes(getattr(diffusers, f"{kind}Model")(**changed))
    attention = {name: shape for name, shape in shapes.items() if re.search(r"to_([qkv]|out\.0|query|key)$", name)}
    assert attention
    for chosen in (shapes, attention):
        assert {guess(entries(chosen, kohya=kohya), KNOWN) for kohya in (False, True)} == {model}


@pytest.mark.parametrize(("name", "into", "model"), ORIGINAL)
@pytest.mark.parametrize("ending", ["lora_down.weight", "lora_A.default.weight"])
def test_original_names_tell_their_model(name: str, into: int, model: str, ending: str) -> None:
    assert guess({f"{name}.{ending}": Entry("F32", (4, into))}, KNOWN) == model


def test_a_model_of_flux_1s_width_is_told_by_what_its_layers_put_out() -> None:
    stem = "diffusion_model.single_blocks.0.linear1"
    for out, model in ((27648, "FLUX.2 [klein] 4B"), (21504, "FLUX.1")):
        made = {f"{stem}.lora_A.weight": Entry("F32", (4, 3072)), f"{stem}.lora_B.weight": Entry("F32", (out, 4))}
        assert guess(made, KNOWN) == model


@pytest.mark.parametrize(
    ("keys", "name", "into", "model"),
    # Of names that a base shares, what does not fit is seen by size: tests/lora/test_lora.py.
    [(keys, *row) for keys in KNOWN for row in ORIGINAL if row[2] and not keys.place_of(row[0])],
    ids=lambda part: str(getattr(part, "model", part)),
)
def test_the_refusal_names_it_whatever_the_base(
    tmp_path: Path, keys: LoraKeys, name: str, into: int, model: str
) -> None:
    made = keyed("", factors({name: (4, into)}), "lora_down", "lora_up", alpha=1.0, dots=True)
    with pytest.raises(UnusableAdapter, match=re.escape(f"probably for {model}")):
        read_lora(written(tmp_path / "a", made), keys, known=KNOWN)


@pytest.mark.parametrize(("said", "model"), HEADERS)
def test_a_header_says_what_keys_leave_open(said: str, model: str) -> None:
    for entry in ("modelspec.architecture", "ss_base_model_version"):
        assert declared({entry: said}) == model
    unclear = {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": Entry("F32", (4, 1280))}
    assert guess(unclear, KNOWN, {"ss_base_model_version": said}) == (model or "Stable Diffusion XL, 1.5 or 2")


def test_what_fits_is_applied_whatever_its_header_says_and_that_is_said(tmp_path: Path) -> None:
    made = keyed("transformer.", factors({"proj_out": (4, 8)}), "lora_A", "lora_B", alpha=None, dots=True)
    lora = read_lora(written(tmp_path / "a", made, {"modelspec.architecture": "flux-1-kontext-dev/lora"}), FLUX_KEYS)
    assert "made for FLUX.1 Kontext [dev]. Its layers fit" in lora.remarks[0]
    assert read_lora(written(tmp_path / "b", made, dict(FLUX_KEYS.facts)), FLUX_KEYS).remarks == []


def test_a_file_with_some_of_our_names_is_told_whose_the_others_are(tmp_path: Path) -> None:
    shapes = {"double_blocks.0.img_attn_qkv": (24, 8), "double_blocks.0.img_mlp.fc1": (8, 8)}
    made = keyed("lora_unet_", factors(shapes), "lora_down", "lora_up", alpha=1.0, dots=False)
    with pytest.raises(UnusableAdapter, match=r"3 of this file's 6 keys are not known.*probably for HunyuanVideo"):
        read_lora(written(tmp_path / "a", made), FLUX_KEYS, known=KNOWN)


def test_another_kind_of_file_for_another_model_is_called_both(tmp_path: Path) -> None:
    made = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lokr_w1": torch.ones(4, 4)}
    with pytest.raises(UnusableAdapter, match=r"probably for Stable Diffusion XL, 1\.5 or 2, is a LoKr"):
        read_lora(written(tmp_path / "a", made), FLUX_KEYS, known=KNOWN)


def test_only_the_base_models_that_are_asked_about_are_known_by_their_layers() -> None:
    unknown = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": Entry("F32", (4, 17))}
    assert guess(unknown, [IDEOGRAM_KEYS, FLUX_KEYS]) == "FLUX.1"
    assert guess(unknown, [IDEOGRAM_KEYS]) == ""


def test_every_row_of_the_table_is_some_examples() -> None:
    examples = {model for *_, model in REAL} | {model for *_, model in ORIGINAL} | {model for _, model in HEADERS}
    assert {model.name for model in MODELS} <= examples
