"""A LoRA means the same in every form, loads in the plain pipeline, and is never silently without effect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file

from tintype.errors import UnusableAdapter
from tintype.lora.adapter import Adapter
from tintype.lora.pairs import Pair
from tintype.models.ideogram4.lora import FORMS, METADATA_KEY, Form, fused, match, read, write
from tintype.models.ideogram4.lora_file import IDEOGRAM_LAYOUT
from tintype.models.ideogram4.model import Ideogram4Family, adapter_targets, fused_groups
from tintype.training.export import export_all

Layers = dict[str, Pair]


def adapter(network: Ideogram4Transformer2DModel, *, shared: bool, alpha: float = 3.0, rank: int = 4) -> Layers:
    """Random factors for every target; q, k and v of a block share the one that reads, or not."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for name in adapter_targets(network):
        layer = network.get_submodule(name)
        down = torch.randn(rank, layer.in_features, generator=generator)
        layers[name] = Pair(down, torch.randn(layer.out_features, rank, generator=generator) * 0.1, alpha)
    if shared:
        for group in fused_groups(network):
            layers |= {name: Pair(layers[group[0]].down, layers[name].up, alpha) for name in group}
    return layers


@pytest.fixture(scope="module")
def network(ideogram: Ideogram4Family) -> Ideogram4Transformer2DModel:
    return ideogram.load_transformer()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_every_form_reads_back_as_the_same_change(
    network: Ideogram4Transformer2DModel, form: Form, shared: bool
) -> None:
    layers = adapter(network, shared=shared)
    again = read(*write(layers, form, torch.float32))
    assert list(again) == list(layers)
    match(again, network)
    for name, factors in layers.items():
        torch.testing.assert_close(again[name].change(), factors.change())


def test_a_shared_factor_keeps_the_rank_and_separate_ones_add_up(network: Ideogram4Transformer2DModel) -> None:
    assert {factors.rank for factors in fused(adapter(network, shared=True)).values()} == {4}
    stacked = fused(adapter(network, shared=False))
    assert stacked["layers.0.attention.qkv"].rank == 12
    assert stacked["layers.0.attention.qkv"].alpha == 9.0


def test_parts_of_different_strength_or_absent_parts_fuse_exactly(network: Ideogram4Transformer2DModel) -> None:
    layers = adapter(network, shared=False)
    query = layers["layers.0.attention.to_q"]
    layers["layers.0.attention.to_q"] = Pair(query.down, query.up, alpha=1.0)
    del layers["layers.0.attention.to_k"]
    again = read(*write(layers, "comfy", torch.float32))
    assert again["layers.0.attention.to_k"].change().abs().max() == 0
    for name, factors in layers.items():
        torch.testing.assert_close(again[name].change(), factors.change())


@pytest.mark.parametrize("form", ["diffusers", "comfy", "fal"])
def test_the_plain_pipeline_loads_it_with_this_very_effect(
    ideogram: Ideogram4Family, tmp_path: Path, form: Form
) -> None:
    pipeline = Ideogram4Pipeline.from_pretrained(ideogram.weights.folder)
    layers = adapter(pipeline.transformer, shared=True)
    before = {name: pipeline.transformer.get_submodule(name).weight.detach().clone() for name in layers}
    tensors, metadata = write(layers, form, torch.float32)
    save_file(tensors, tmp_path / "lora.safetensors", metadata=metadata)
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    pipeline.fuse_lora()
    for name, factors in layers.items():
        layer = pipeline.transformer.get_submodule(name)
        weight = getattr(layer, "base_layer", layer).weight
        torch.testing.assert_close(weight - before[name], factors.change(), atol=1e-5, rtol=1e-4)


def test_files_of_the_real_model_have_the_published_size(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = Ideogram4Transformer2DModel()
    targets, shared = tuple(adapter_targets(network)), fused_groups(network)
    new = Adapter.for_transformer(network, targets, rank=16, seed=0, device=torch.device("cpu"), shared=shared)
    written = export_all(IDEOGRAM_LAYOUT, new, tmp_path, weights=None, dtype=torch.bfloat16, header={})
    sizes = {}
    for form, path in written.items():
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(length).decode()).keys() - {"__metadata__"}
        sizes[form] = len(tensors), path.stat().st_size - 8 - length
    fused_form = (510, 85_230_248)  # of a LoRA that fal publishes
    assert sizes == {"fal": fused_form, "comfy": fused_form, "kohya": fused_form, "diffusers": (476, 95_256_576)}


@pytest.mark.parametrize("prefix", ["", "base_model.model.", "conditional_transformer.", "diffusion_model."])
def test_other_peoples_prefixes_are_read(network: Ideogram4Transformer2DModel, prefix: str) -> None:
    tensors, metadata = write(adapter(network, shared=True), "diffusers", torch.float32)
    renamed = {prefix + key.removeprefix("transformer."): tensor for key, tensor in tensors.items()}
    assert list(read(renamed, metadata)) == list(adapter_targets(network))


def test_alpha_is_the_rank_where_nothing_is_said(network: Ideogram4Transformer2DModel) -> None:
    tensors, _ = write(adapter(network, shared=True), "diffusers", torch.float32)
    assert {factors.alpha for factors in read(tensors, {}).values()} == {4.0}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"], "No key of this file names a layer"),
        (["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"], "No key of this file names a layer"),
        (["layers.0.feed_forward.w1.lora_A.weight"], "only one of their two factors"),
        (["layers.0.feed_forward.w1.lora_A.weight", "input_proj.lora_A.weight"], "1 of this file's 2 keys"),
        (["layers.0.feed_forward.w1.lora_A.weight", "layers.0.feed_forward.w1.dora_scale"], "1 of this file's 2 keys"),
        ([], "No key"),
    ],
)
def test_a_file_for_something_else_is_an_error_never_nothing(keys: list[str], said: str) -> None:
    with pytest.raises(UnusableAdapter, match=said) as problem:
        read({key: torch.zeros(2, 2) for key in keys}, {}, loc=("body", "loras", 0, "path"))
    assert "Ideogram 4 LoRA" in problem.value.message


def test_a_lora_for_a_larger_base_is_refused_before_it_is_loaded(network: Ideogram4Transformer2DModel) -> None:
    layers = {"layers.0.attention.to_q": Pair(torch.zeros(2, 4608), torch.zeros(4608, 2), 2.0)}
    with pytest.raises(UnusableAdapter, match="4608x4608 instead of 32x32"):
        match(layers, network)
    with pytest.raises(UnusableAdapter, match="not in the base model"):
        match({"layers.9.attention.to_q": layers["layers.0.attention.to_q"]}, network)


def test_damaged_metadata_is_refused() -> None:
    with pytest.raises(UnusableAdapter, match="metadata"):
        read({}, {METADATA_KEY: "{"})


def test_files_say_their_alpha_to_diffusers(network: Ideogram4Transformer2DModel, tmp_path: Path) -> None:
    tensors, metadata = write(adapter(network, shared=True), "diffusers", torch.bfloat16)
    save_file(tensors, tmp_path / "a.safetensors", metadata=metadata)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as opened:
        stated = json.loads(opened.metadata()[METADATA_KEY])
    assert (stated["transformer.r"], stated["transformer.lora_alpha"]) == (4, 3.0)
