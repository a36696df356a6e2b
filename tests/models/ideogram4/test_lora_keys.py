"""A LoRA means the same in every form, loads in the plain pipeline, and a stranger's is loaded whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.support.tiny_ideogram import random_layers, save_lora

from tintype.errors import UnusableAdapter
from tintype.lora.adapter import Adapter
from tintype.lora.keys import METADATA_KEY
from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair
from tintype.lora.read import read_lora
from tintype.lora.write import fused_pairs, write_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import Ideogram4Family, adapter_targets
from tintype.training.export import export_all

FORMS = [form.name for form in IDEOGRAM_KEYS.forms]


def adapter(
    network: Ideogram4Transformer2DModel, *, shared: bool, alpha: float = 3.0, rank: int = 4
) -> dict[str, Pair]:
    """Random factors for every target; q, k and v of a block share the one that reads, or not."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for name in adapter_targets(network):
        layer = network.get_submodule(name)
        down = torch.randn(rank, layer.in_features, generator=generator)
        layers[name] = Pair(down, torch.randn(layer.out_features, rank, generator=generator) * 0.1, alpha)
    if shared:
        for group in IDEOGRAM_KEYS.sharing(layers):
            layers |= {name: Pair(layers[group[0]].down, layers[name].up, alpha) for name in group}
    return layers


def again(path: Path, layers: dict[str, Pair], form: str) -> Lora:
    """The LoRA after it was written and read."""
    return read_lora(save_lora(path / "again.safetensors", Lora(layers), form), IDEOGRAM_KEYS)


def keyed(path: Path, keys: list[str]) -> Path:
    save_file({key: torch.ones(2, 2) for key in keys}, path)
    return path


@pytest.fixture(scope="module")
def network(ideogram: Ideogram4Family) -> Ideogram4Transformer2DModel:
    return ideogram.load_transformer()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_every_form_reads_back_as_the_same_change(
    network: Ideogram4Transformer2DModel, tmp_path: Path, form: str, shared: bool
) -> None:
    layers = adapter(network, shared=shared)
    lora = again(tmp_path, layers, form)
    assert lora.pairs.keys() == layers.keys()
    lora.check_fits(network, IDEOGRAM_KEYS)
    for name, factors in layers.items():
        torch.testing.assert_close(lora.pairs[name].change(), factors.change())
        assert lora.pairs[name].rank == 4


def test_a_shared_factor_keeps_the_rank_and_separate_ones_add_up(network: Ideogram4Transformer2DModel) -> None:
    assert {factors.rank for factors in fused_pairs(adapter(network, shared=True), IDEOGRAM_KEYS).values()} == {4}
    stacked = fused_pairs(adapter(network, shared=False), IDEOGRAM_KEYS)
    assert stacked["layers.0.attention.qkv"].rank == 12
    assert stacked["layers.0.attention.qkv"].alpha == 9.0


def test_parts_of_different_strength_or_absent_parts_fuse_exactly(
    network: Ideogram4Transformer2DModel, tmp_path: Path
) -> None:
    layers = adapter(network, shared=False)
    query = layers["layers.0.attention.to_q"]
    layers["layers.0.attention.to_q"] = Pair(query.down, query.up, alpha=1.0)
    del layers["layers.0.attention.to_k"]
    lora = again(tmp_path, layers, "comfy")
    assert lora.pairs.keys() == layers.keys(), "what was absent is not there as a change of nothing"
    for name, factors in layers.items():
        torch.testing.assert_close(lora.pairs[name].change(), factors.change())


@pytest.mark.parametrize("form", ["diffusers", "comfy", "fal"])
def test_the_plain_pipeline_loads_it_with_this_very_effect(
    ideogram: Ideogram4Family, tmp_path: Path, form: str
) -> None:
    pipeline = Ideogram4Pipeline.from_pretrained(ideogram.weights.folder)
    layers = adapter(pipeline.transformer, shared=True)
    before = {name: pipeline.transformer.get_submodule(name).weight.detach().clone() for name in layers}
    pipeline.load_lora_weights(save_lora(tmp_path / "lora.safetensors", Lora(layers), form))
    pipeline.fuse_lora()
    for name, factors in layers.items():
        layer = pipeline.transformer.get_submodule(name)
        weight = getattr(layer, "base_layer", layer).weight
        torch.testing.assert_close(weight - before[name], factors.change(), atol=1e-5, rtol=1e-4)


def test_files_of_the_real_model_have_the_published_size(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = Ideogram4Transformer2DModel()
    targets = adapter_targets(network)
    shared = IDEOGRAM_KEYS.sharing(targets)
    new = Adapter.for_transformer(network, targets, rank=16, seed=0, device=torch.device("cpu"), shared=shared)
    written = export_all(new.lora(), IDEOGRAM_KEYS, tmp_path, dtype=torch.bfloat16, header={})
    sizes = {}
    for form, path in written.items():
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(length).decode()).keys() - {"__metadata__"}
        sizes[form] = len(tensors), path.stat().st_size - 8 - length
    fused_form = (510, 85_230_248)  # of a LoRA that fal publishes
    assert sizes == {"fal": fused_form, "comfy": fused_form, "kohya": fused_form, "diffusers": (476, 95_256_576)}


@pytest.mark.parametrize(
    ("prefix", "ending"),
    [("", ".weight"), ("base_model.model.", ".default.weight"), ("conditional_transformer.", ".weight"),
     ("diffusion_model.", ".weight"), ("model.", "")],
)  # fmt: skip
def test_other_peoples_prefixes_are_read(
    network: Ideogram4Transformer2DModel, tmp_path: Path, prefix: str, ending: str
) -> None:
    tensors = load_file(save_lora(tmp_path / "a", Lora(adapter(network, shared=True))))
    renamed = {
        prefix + key.removeprefix("transformer.").removesuffix(".weight") + ending: tensor
        for key, tensor in tensors.items()
    }
    save_file(renamed, tmp_path / "b")
    assert set(read_lora(tmp_path / "b", IDEOGRAM_KEYS).pairs) == set(adapter_targets(network))


def test_alpha_is_the_rank_where_nothing_is_said(network: Ideogram4Transformer2DModel, tmp_path: Path) -> None:
    save_file(load_file(save_lora(tmp_path / "a", Lora(adapter(network, shared=True)))), tmp_path / "b")
    assert {factors.alpha for factors in read_lora(tmp_path / "b", IDEOGRAM_KEYS).pairs.values()} == {4.0}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"], "This file holds no LoRA layer"),
        (["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"], "of Ideogram 4; it is probably for FLUX.1"),
        (["layers.0.feed_forward.w1.lora_A.weight"], "only one of its two factors"),
        (["layers.0.feed_forward.w1.lora_A.weight", "input_proj.lora_A.weight"], "1 of this file's 2 keys"),
        (["layers.0.feed_forward.w1.lora_A.weight", "layers.0.feed_forward.w1.dora_scale"], "a DoRA"),
        ([], "it is empty"),
    ],
)
def test_a_file_for_something_else_is_an_error_never_nothing(tmp_path: Path, keys: list[str], said: str) -> None:
    with pytest.raises(UnusableAdapter, match=said) as problem:
        read_lora(keyed(tmp_path / "a", keys), IDEOGRAM_KEYS, known=[FLUX_KEYS, IDEOGRAM_KEYS])
    assert "Ideogram 4 LoRA" in problem.value.message


def test_a_lora_for_a_larger_base_is_refused_before_it_is_loaded(network: Ideogram4Transformer2DModel) -> None:
    pair = Pair(torch.zeros(2, 3840), torch.zeros(3840, 2), 2.0)
    with pytest.raises(UnusableAdapter, match=r"Z-Image: .* 3840x3840 in the file and 32x32 in the base"):
        Lora({"layers.0.attention.to_q": pair}).check_fits(network, IDEOGRAM_KEYS)
    with pytest.raises(UnusableAdapter, match="exists in the base model"):
        Lora({"layers.9.attention.to_q": pair}).check_fits(network, IDEOGRAM_KEYS)


def test_damaged_metadata_is_refused(network: Ideogram4Transformer2DModel, tmp_path: Path) -> None:
    tensors = load_file(save_lora(tmp_path / "a", Lora(adapter(network, shared=True))))
    save_file(tensors, tmp_path / "b", {METADATA_KEY: "{"})
    with pytest.raises(UnusableAdapter, match=METADATA_KEY):
        read_lora(tmp_path / "b", IDEOGRAM_KEYS)


def test_files_say_their_alpha_to_diffusers(network: Ideogram4Transformer2DModel, tmp_path: Path) -> None:
    lora, path = Lora(adapter(network, shared=True)), tmp_path / "a.safetensors"
    write_lora(lora, IDEOGRAM_KEYS, path, form="diffusers", dtype=torch.bfloat16, header={})
    with safe_open(path, framework="pt") as opened:
        stated = json.loads(opened.metadata()[METADATA_KEY])
    assert (stated["transformer.r"], stated["transformer.lora_alpha"]) == (4, 3.0)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_factors_for_every_layer(
    ideogram: Ideogram4Family, tmp_path: Path, form: str
) -> None:
    layers = random_layers(ideogram)
    lora = ideogram.read_lora(save_lora(tmp_path / "a.safetensors", layers, form))
    assert {key.split(".lora_")[0] for key in lora.state} == {f"transformer.{name}" for name in layers.pairs}
    for name, own in layers.pairs.items():
        down, up = (lora.state[f"transformer.{name}.lora_{which}.weight"] for which in "AB")
        scale = lora.config["transformer.lora_alpha"] / lora.config["transformer.r"]
        torch.testing.assert_close(scale * up @ down, own.change(), atol=1e-5, rtol=1e-4)


def spoilt(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    first = next(key for key in tensors if key.endswith("qkv.lora_B.weight"))
    single = next(key for key in tensors if key.endswith("w1.lora_B.weight"))
    alpha = next(key for key in tensors if key.endswith(".alpha"))
    down = first.replace("lora_B", "lora_A")
    if how == "not finite":
        tensors[first][0, 0] = torch.inf
    elif how == "far too large":
        tensors[first] *= 1e9
    elif how == "not one number":
        tensors[alpha] = torch.ones(2)
    elif how == "alpha of .* not finite":
        tensors[alpha] = torch.tensor(torch.nan)
    elif how == "fit each other":
        tensors[first], tensors[down] = tensors[first][:, :0], tensors[down][:0]
    elif how == "95x32 in the file; in Ideogram 4 of that width it is 96x32":
        tensors[first] = tensors[first][:-1]
    elif how == "twice":
        tensors[first.replace("qkv", "to_q")] = -tensors[first][:32]
        tensors[down.replace("qkv", "to_q")] = tensors[down].clone()
    elif how == "192x32 in the file; in Ideogram 4 of that width":
        tensors[first] = torch.cat([tensors[first]] * 2)
    elif how == "another size":
        tensors[single] = torch.cat([tensors[single]] * 2)
    elif how == "not floating point":
        tensors[first] = tensors[first].int()
    return tensors


@pytest.mark.parametrize(
    "how", ["not finite", "far too large", "not one number", "alpha of .* not finite", "fit each other", "twice",
            "95x32 in the file; in Ideogram 4 of that width it is 96x32", "another size", "not floating point",
            "192x32 in the file; in Ideogram 4 of that width"],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(ideogram: Ideogram4Family, tmp_path: Path, how: str) -> None:
    path = save_lora(tmp_path / "a.safetensors", random_layers(ideogram), "comfy")
    save_file(spoilt(load_file(path), how), path)
    with pytest.raises(UnusableAdapter, match=how):
        ideogram.read_lora(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_lora_is_refused(ideogram: Ideogram4Family, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnusableAdapter):
        ideogram.read_lora(tmp_path / "a")


def test_a_file_for_another_registered_base_is_told_whose_it_is(ideogram: Ideogram4Family, tmp_path: Path) -> None:
    with pytest.raises(UnusableAdapter, match=r"probably for FLUX\.1"):
        ideogram.read_lora(keyed(tmp_path / "a", ["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"]))


def test_settings_that_a_file_states_are_not_obeyed(ideogram: Ideogram4Family, tmp_path: Path) -> None:
    """PEFT would follow them into initialisations that rewrite the base's own weights."""
    path = save_lora(tmp_path / "a.safetensors", random_layers(ideogram))
    told = {"transformer.init_lora_weights": "pissa", "transformer.lora_alpha": 2.0}
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(told)})
    assert not [key for key in ideogram.read_lora(path).config if "init" in key]
