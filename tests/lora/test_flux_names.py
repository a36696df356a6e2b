"""The table of layer names, against the real model's layers and the names other projects print."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxTransformer2DModel

from tintype.lora.flux_names import Place, form_of, is_text, originals, outputs, place_of
from tintype.lora.read import linear_shapes
from tintype.models.flux.model import adapter_targets


@pytest.fixture(scope="module")
def real() -> FluxTransformer2DModel:
    """FLUX.1 [dev] without its weights."""
    with torch.device("meta"):
        return FluxTransformer2DModel(guidance_embeds=True)


def test_every_linear_layer_of_the_real_model_has_a_name_in_both_worlds(real: FluxTransformer2DModel) -> None:
    layers = list(linear_shapes(real))
    assert len(layers) == 19 * 14 + 38 * 6 + 10
    assert all(place_of(layer) == Place((layer,)) for layer in layers)
    named = originals(layers)
    assert sorted(layer for place in named.values() for layer in place.layers) == sorted(layers)
    assert len(named) == 19 * 10 + 38 * 3 + 10
    for name, place in named.items():
        assert place_of(name) == place_of(name.replace(".", "_")) == place_of(f"lora_unet_{name.replace('.', '_')}")
        assert place_of(f"diffusion_model.{name}") == place


def test_fused_sizes_are_those_of_the_real_layers(real: FluxTransformer2DModel) -> None:
    shapes = linear_shapes(real)
    for place in originals(adapter_targets(real)).values():
        if len(place.layers) > 1:
            assert outputs(place.layers, 3072) == [shapes[layer][0] for layer in place.layers]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("lora_unet_double_blocks_7_img_attn_qkv", ("to_q", "to_k", "to_v")),
        ("lora_unet_double_blocks_7_txt_attn_proj", ("to_add_out",)),
        ("diffusion_model.double_blocks.7.img_mod.lin", ("norm1.linear",)),
        ("transformer.double_blocks.7.img_attn.qkv.1", ("to_k",)),
        ("transformer.single_blocks.7.linear1.3", ("proj_mlp",)),
        ("lora_transformer_single_transformer_blocks_7_proj_out", ("single_transformer_blocks.7.proj_out",)),
        ("lora_unet_final_layer_linear", ("proj_out",)),
        ("base_model.model.transformer_blocks.7.ff_context.net.0.proj", ("ff_context.net.0.proj",)),
        ("double_blocks.7.processor.qkv_lora2", ("add_q_proj", "add_k_proj", "add_v_proj")),
        ("single_blocks.7.processor.proj_lora", ("proj_out",)),
        ("lora_transformer_time_text_embed_guidance_embedder_linear_2", ("guidance_embedder.linear_2",)),
    ],
)
def test_names_that_peers_write(name: str, layers: tuple[str, ...]) -> None:
    place = place_of(name)
    assert place is not None
    assert len(place.layers) == len(layers)
    assert all(found.endswith(wanted) for found, wanted in zip(place.layers, layers, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "", "lora_unet_down_blocks_0_attentions_0_proj_in", "transformer.layers.0.attention.to_q",
        "double_blocks.x.linear1", "double_blocks.0.linear1", "single_blocks.0.img_attn.qkv",
        "transformer_blocks.0.attn.to_q.extra",
        "transformer.transformer_blocks.0.attn.to_out", "lora_unet_blocks_0_self_attn_q",
    ],
)  # fmt: skip
def test_other_models_names_mean_nothing(name: str) -> None:
    assert place_of(name) is None


def test_the_last_layers_halves_are_known_to_be_swapped_in_the_original_code() -> None:
    place = place_of("lora_unet_final_layer_adaLN_modulation_1")
    assert place == Place(("norm_out.linear",), swapped=True)
    assert originals(["norm_out.linear"]) == {"final_layer.adaLN_modulation.1": place}
    assert place_of("transformer.norm_out.linear") == Place(("norm_out.linear",))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", True), ("text_encoder.text_model.x", True),
        ("text_encoders.t5xxl.transformer.x", True), ("clip_l.x", True), ("t5.x", True),
        ("lora_unet_txt_in.alpha", False), ("transformer.context_embedder.x", False),
    ],
)  # fmt: skip
def test_text_encoders_are_told_apart(key: str, text: bool) -> None:
    assert is_text(key) is text


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("lora_unet_img_in.alpha", "kohya"), ("diffusion_model.img_in.alpha", "ComfyUI"),
        ("transformer.x", "diffusers"),
        ("transformer.single_blocks.0.linear1.0.alpha", "OneTrainer"), ("lora_transformer_x", "OneTrainer"),
        ("double_blocks.0.processor.qkv_lora1.up.weight", "x-flux"), ("base_model.model.x", "PEFT"), ("x", "without"),
    ],
)  # fmt: skip
def test_the_form_is_named_for_people(key: str, form: str) -> None:
    assert form in form_of(key)
