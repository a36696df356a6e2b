"""The table of layer names, against the real model's layers and the names other projects print."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxTransformer2DModel

from tintype.lora.keys import Place
from tintype.lora.lora import linear_shapes, vector_lengths
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import adapter_targets


@pytest.fixture(scope="module")
def real() -> FluxTransformer2DModel:
    """FLUX.1 [dev] without its weights."""
    with torch.device("meta"):
        return FluxTransformer2DModel(guidance_embeds=True)


def test_every_linear_layer_of_the_real_model_has_a_name_in_both_worlds(real: FluxTransformer2DModel) -> None:
    layers = list(linear_shapes(real))
    assert len(layers) == 19 * 14 + 38 * 6 + 10
    assert all(FLUX_KEYS.place_of(layer) == Place((layer,)) for layer in layers)
    vectors = {name.removesuffix(".weight") for name in vector_lengths(real) if name.endswith(".weight")}
    assert len(vectors) == 19 * 4 + 38 * 2
    assert all(FLUX_KEYS.place_of(norm) == Place((norm,)) for norm in vectors)
    named = FLUX_KEYS.originals(layers)
    assert sorted(layer for place in named.values() for layer in place.layers) == sorted(layers)
    assert len(named) == 19 * 10 + 38 * 3 + 10
    for name, place in named.items():
        assert (
            FLUX_KEYS.place_of(name)
            == FLUX_KEYS.place_of(name.replace(".", "_"))
            == FLUX_KEYS.place_of(f"lora_unet_{name.replace('.', '_')}")
        )
        assert FLUX_KEYS.place_of(f"diffusion_model.{name}") == place


def test_fused_sizes_are_those_of_the_real_layers(real: FluxTransformer2DModel) -> None:
    shapes = linear_shapes(real)
    for place in FLUX_KEYS.originals(adapter_targets(real)).values():
        if len(place.layers) > 1:
            assert FLUX_KEYS.outputs(place.layers, 3072) == [shapes[layer][0] for layer in place.layers]


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
    place = FLUX_KEYS.place_of(name)
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
    assert FLUX_KEYS.place_of(name) is None


def test_the_last_layers_halves_are_known_to_be_swapped_in_the_original_code() -> None:
    place = FLUX_KEYS.place_of("lora_unet_final_layer_adaLN_modulation_1")
    assert place == Place(("norm_out.linear",), swapped=True)
    assert FLUX_KEYS.originals(["norm_out.linear"]) == {"final_layer.adaLN_modulation.1": place}
    assert FLUX_KEYS.place_of("transformer.norm_out.linear") == Place(("norm_out.linear",))
