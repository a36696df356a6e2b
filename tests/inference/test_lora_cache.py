"""LoRAs come and go in the resident pipeline; the base underneath is never touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.support.loras import flux_lora
from tests.support.tiny_ideogram import random_layers, save_lora, save_tiny_ideogram

from tintype.errors import FileDownloadError, UnusableAdapter
from tintype.inference.lora_cache import LoraCache, LoraRequest, loaded_names, name_of
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.keys import METADATA_KEY
from tintype.lora.tensor_file import digest_of
from tintype.models.family import Latents
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights
from tintype.settings import load_settings
from tintype.training.export import export_all


@pytest.fixture
def flux() -> FluxFamily:
    return ResidentModels(load_settings(), "cpu").family(FluxFamily)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small LoRAs that change the picture visibly."""
    flux = ResidentModels(load_settings(), "cpu").family(FluxFamily)
    folder = tmp_path_factory.mktemp("loras")
    return [flux_lora(flux, folder / f"{seed}.safetensors", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def ideogram_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ideogram(tmp_path_factory.mktemp("ideogram"))


@pytest.fixture
def ideogram(ideogram_folder: Path) -> Ideogram4Family:
    return Ideogram4Family(BaseWeights("ideogram4", ideogram_folder, "random", "a test"), torch.device("cpu"))


@pytest.fixture(params=["flux", "ideogram"])
def family(request: pytest.FixtureRequest) -> Any:
    """The cache is one piece for both bases, so what it promises is asked of both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def loras(family: Any, portraits: list[Path], tmp_path: Path) -> list[Path]:
    if isinstance(family, FluxFamily):
        return portraits
    return [save_lora(tmp_path / f"{seed}.safetensors", random_layers(family, seed=seed)) for seed in range(3)]


@torch.no_grad()
def answer(family: Any) -> torch.Tensor:
    """What the resident transformer makes of one fixed question."""
    transformer = family.pipeline().transformer
    tokens = torch.randn(1, 12, transformer.config.in_channels, generator=torch.Generator().manual_seed(0))
    features = family.encode_captions(["a portrait"])
    return family.predict_velocity(transformer, Latents(tokens, 3, 4), torch.tensor([0.5]), features, 3.5)


def wanted(path: Path, scale: float = 1.0) -> LoraRequest:
    return LoraRequest(path, scale, ("loras", 0, "path"))


def test_a_lora_acts_and_is_gone_without_a_trace(family: Any, loras: list[Path]) -> None:
    cache, base = LoraCache(family, 4), answer(family)
    cache.apply([wanted(loras[0])])
    with_first = answer(family)
    assert not torch.equal(with_first, base)
    cache.apply([])
    assert torch.equal(answer(family), base)
    cache.apply([wanted(loras[0])])
    assert torch.equal(answer(family), with_first)
    cache.apply([wanted(loras[0], 0.0)])
    assert torch.equal(answer(family), base)


def test_scales_and_company_are_those_of_this_request_only(family: Any, loras: list[Path]) -> None:
    cache = LoraCache(family, 4)
    cache.apply([wanted(loras[1])])
    alone = answer(family)
    cache.apply([wanted(loras[0], 0.3), wanted(loras[1], 2.0), wanted(loras[2])])
    assert not torch.equal(answer(family), alone)
    cache.apply([wanted(loras[1])])
    assert torch.equal(answer(family), alone)


def test_the_same_file_twice_acts_as_the_sum(family: Any, loras: list[Path], tmp_path: Path) -> None:
    cache = LoraCache(family, 4)
    cache.apply([wanted(loras[0], 1.0)])
    once = answer(family)
    copy = tmp_path / "copy"
    copy.write_bytes(loras[0].read_bytes())
    cache.apply([wanted(loras[0], 0.25), wanted(copy, 0.75)])
    torch.testing.assert_close(answer(family), once)


def test_the_least_recently_used_goes_first(family: Any, loras: list[Path]) -> None:
    cache = LoraCache(family, 2)
    for path in (loras[0], loras[1], loras[0], loras[2]):
        cache.apply([wanted(path)])
    assert cache.names == tuple(name_of(digest_of(path)) for path in (loras[0], loras[2]))
    assert loaded_names(family.pipeline()) == set(cache.names)


def test_a_file_that_never_changes_is_asked_for_only_while_it_is_not_there(family: Any, loras: list[Path]) -> None:
    asked: list[int] = []

    def by_origin(number: int) -> LoraRequest:
        def get() -> Path:
            asked.append(number)
            return loras[number]

        return LoraRequest(get, origin=f"tintype:files/{number}")

    cache = LoraCache(family, 2)
    for number in (0, 0, 1, 0, 2, 0, 1):
        cache.apply([by_origin(number)])
    assert asked == [0, 1, 2, 1], "1 was the least recently used when 2 came"
    cache.apply([by_origin(1), by_origin(0)])
    both = answer(family)
    family.load_transformer()  # a training takes every LoRA off
    cache.apply([by_origin(1), by_origin(0)])
    assert torch.equal(answer(family), both)
    assert asked == [0, 1, 2, 1, 1, 0]


def test_a_file_is_hashed_once(family: Any, loras: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    plain = hashlib.file_digest

    def counted(file: Any, algorithm: Any) -> Any:
        hashed.append(file.name)
        return plain(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    LoraCache(family, 4).apply([wanted(loras[0])])
    assert hashed == [str(loras[0])]


def test_one_that_cannot_be_fetched_is_named_by_its_index(family: Any, loras: list[Path]) -> None:
    def get() -> Path:
        raise FileDownloadError("It is not there.")

    cache = LoraCache(family, 4)
    with pytest.raises(FileDownloadError) as caught:
        cache.apply([wanted(loras[0]), LoraRequest(get, about=("loras", 1, "path"))])
    assert caught.value.details[0]["loc"] == ["body", "loras", 1, "path"]
    assert cache.names == ()


def test_more_loras_at_once_than_are_kept_all_act(family: Any, loras: list[Path]) -> None:
    cache = LoraCache(family, 1)
    cache.apply([wanted(path) for path in loras])
    assert len(cache.names) == 3


def test_one_that_does_not_fit_leaves_everything_as_it_was(family: Any, loras: list[Path], tmp_path: Path) -> None:
    cache, base = LoraCache(family, 4), answer(family)
    cache.apply([wanted(loras[0])])
    good = answer(family)
    tensors = {
        key: torch.zeros(tensor.shape[0] + 1, tensor.shape[1] + 1) for key, tensor in load_file(loras[1]).items()
    }
    save_file(tensors, tmp_path / "bad.safetensors")
    bad = LoraRequest(tmp_path / "bad.safetensors", 1.0, ("loras", 1, "path"))
    with pytest.raises(UnusableAdapter) as caught:
        cache.apply([wanted(loras[2]), bad])
    assert caught.value.details[0]["loc"] == ["body", "loras", 1, "path"]
    cache.apply([])
    assert torch.equal(answer(family), base)
    cache.apply([wanted(loras[0])])
    assert torch.equal(answer(family), good)


def test_a_lora_that_is_not_finite_is_refused_and_leaves_no_trace(
    family: Any, loras: list[Path], tmp_path: Path
) -> None:
    cache, base = LoraCache(family, 4), answer(family)
    tensors = load_file(loras[0])
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(UnusableAdapter, match="not finite"):
        cache.apply([wanted(tmp_path / "nan.safetensors")])
    assert torch.equal(answer(family), base)
    assert loaded_names(family.pipeline()) == set()


def test_training_finds_a_bare_transformer_and_drawing_goes_on_afterwards(family: Any, loras: list[Path]) -> None:
    cache = LoraCache(family, 4)
    cache.apply([wanted(loras[0])])
    before = answer(family)
    assert not any("lora" in name for name, _ in family.load_transformer().named_modules())
    assert cache.names == ()
    cache.apply([wanted(loras[0])])
    assert torch.equal(answer(family), before)


def test_tensors_for_other_parts_are_left_out_and_said(flux: FluxFamily, portraits: list[Path], tmp_path: Path) -> None:
    cache = LoraCache(flux, 4)
    cache.apply([wanted(portraits[0])])
    plain = answer(flux)
    more = {**load_file(portraits[0]), "text_encoder.text_model.q_proj.lora_A.weight": torch.zeros(2, 4)}
    save_file(more, tmp_path / "more.safetensors")
    assert any(
        "for parts of text encoders were left out" in remark
        for remark in cache.apply([wanted(tmp_path / "more.safetensors")])
    )
    torch.testing.assert_close(answer(flux), plain)


def parameters(family: Any) -> dict[str, torch.Tensor]:
    """The transformer's own, whatever is around its layers."""
    named = family.pipeline().transformer.named_parameters()
    return {name.replace(".base_layer", ""): value for name, value in named if ".lora_" not in name}


def changed_more(family: Any, path: Path, made: Path) -> dict[str, torch.Tensor]:
    """Writes a LoRA with changes of a bias, a norm and a thin layer beside its factors; returns them by parameters."""
    tensors, layer = load_file(path), family.adapter_targets[1]
    linear = family.load_transformer().get_submodule(layer)
    flux = isinstance(family, FluxFamily)
    norm = "transformer_blocks.0.attn.norm_q" if flux else "layers.0.attention.norm_q"
    shapes = {f"{layer}.bias": (linear.out_features,), f"{norm}.weight": parameters(family)[f"{norm}.weight"].shape}
    if flux:
        shapes["proj_out.weight"] = parameters(family)["proj_out.weight"].shape
    more = {name: torch.randn(shape, generator=torch.Generator().manual_seed(5)) for name, shape in shapes.items()}
    endings = {".bias": ".lora_B.bias", ".weight": ".diff"}
    for name, change in more.items():
        stem, dot, kind = name.rpartition(".")
        tensors[f"transformer.{stem}{endings[dot + kind]}"] = change
    save_file(tensors, made)
    return more


def test_biases_norms_and_differences_act_as_if_added_by_hand_and_are_gone_without_a_trace(
    family: Any, loras: list[Path], tmp_path: Path
) -> None:
    more = changed_more(family, loras[0], tmp_path / "more.safetensors")
    cache, base, before = LoraCache(family, 4), answer(family), parameters(family)
    cache.apply([wanted(loras[0], 0.7)])
    plain = answer(family)
    cache.apply([wanted(tmp_path / "more.safetensors", 0.7), wanted(loras[1])])
    cache.apply([wanted(tmp_path / "more.safetensors", 0.7)])
    ours = answer(family)
    assert not torch.allclose(ours, plain, atol=1e-2)
    cache.apply([])
    assert torch.equal(answer(family), base)
    cache.apply([wanted(loras[0], 0.7)])
    assert torch.equal(answer(family), plain), "another LoRA's are not left there"
    after = parameters(family)
    assert after.keys() == before.keys(), "a layer without a bias has none again"
    assert all(after[name] is before[name] for name in before), "not a copy: the very parameters"

    transformer = family.pipeline().transformer
    for name, change in more.items():
        owner, _, kind = name.rpartition(".")
        module = transformer.get_submodule(owner)
        module = getattr(module, "base_layer", module)
        own = getattr(module, kind)
        added = 0.7 * change if own is None else own.data + 0.7 * change
        setattr(module, kind, torch.nn.Parameter(added, requires_grad=False))
    torch.testing.assert_close(answer(family), ours, atol=1e-4, rtol=1e-4)
    if isinstance(family, Ideogram4Family):
        assert torch.equal(answer(family), ours), "of vectors alone it is the very same arithmetic"


def test_a_training_finds_no_shifted_bias(family: Any, loras: list[Path], tmp_path: Path) -> None:
    changed_more(family, loras[0], tmp_path / "more.safetensors")
    cache, before = LoraCache(family, 4), parameters(family)
    cache.apply([wanted(tmp_path / "more.safetensors")])
    acting = answer(family)
    bare = dict(family.load_transformer().named_parameters())
    assert bare.keys() == before.keys()
    assert all(bare[name] is before[name] for name in before)
    cache.apply([wanted(tmp_path / "more.safetensors")])
    assert torch.equal(answer(family), acting)


def test_layers_of_text_encoders_act_as_if_added_by_hand_and_are_gone_without_a_trace(
    flux: FluxFamily, portraits: list[Path], tmp_path: Path
) -> None:
    encoders = flux.load_encoders()
    layers = {"text_encoder": "encoder.layers.0.mlp.fc1", "text_encoder_2": "encoder.block.0.layer.1.DenseReluDense.wo"}
    tensors, own = load_file(portraits[0]), {}
    for part, name in layers.items():
        layer = own[part] = getattr(encoders, part).get_submodule(name)
        for which, shape in (("A", (2, layer.in_features)), ("B", (layer.out_features, 2))):
            tensors[f"{part}.{name}.lora_{which}.weight"] = torch.randn(
                shape, generator=torch.Generator().manual_seed(3)
            )
    save_file(tensors, tmp_path / "text.safetensors")
    cache, base = LoraCache(flux, 4), answer(flux)
    cache.apply([wanted(portraits[0], 0.6)])
    plain = answer(flux)
    assert cache.apply([wanted(tmp_path / "text.safetensors", 0.6)]) == []
    ours = answer(flux)
    assert not torch.allclose(ours, plain, atol=1e-3)
    flux.alter({})  # as a training does before it reads captions
    assert torch.equal(answer(flux), plain)
    cache.apply([wanted(tmp_path / "text.safetensors", 0.3), wanted(portraits[1])])
    cache.apply([])
    assert torch.equal(answer(flux), base)
    cache.apply([wanted(portraits[0], 0.6)])
    for part, name in layers.items():
        layer = getattr(encoders, part).get_submodule(name)
        assert layer is own[part]
        down, up = (tensors[f"{part}.{name}.lora_{which}.weight"] for which in "AB")
        layer.weight.data += 0.6 * up @ down
    torch.testing.assert_close(answer(flux), ours, atol=1e-4, rtol=1e-4)


def test_a_file_cannot_make_the_loader_rewrite_the_base(
    flux: FluxFamily, portraits: list[Path], tmp_path: Path
) -> None:
    """PEFT's settings in a file may name an initialisation that changes the base's own weights; they are not obeyed."""
    with safe_open(portraits[0], framework="pt") as opened:
        settings = json.loads(opened.metadata()[METADATA_KEY])
    settings["transformer.init_lora_weights"] = "pissa"
    save_file(load_file(portraits[0]), tmp_path / "a.safetensors", metadata={METADATA_KEY: json.dumps(settings)})
    cache, base = LoraCache(flux, 4), answer(flux)
    cache.apply([wanted(portraits[0])])
    plain = answer(flux)
    cache.apply([wanted(tmp_path / "a.safetensors")])
    torch.testing.assert_close(answer(flux), plain)
    cache.apply([])
    assert torch.equal(answer(flux), base)


def test_ranks_and_alphas_may_differ_from_layer_to_layer(flux: FluxFamily, tmp_path: Path) -> None:
    first, second = flux.adapter_targets[0], flux.adapter_targets[-1]
    base = flux.load_transformer()
    tensors: dict[str, torch.Tensor] = {}
    changed: dict[str, torch.Tensor] = {}
    for name, rank, alpha in ((first, 2, 6.0), (second, 5, 2.0)):
        layer = base.get_submodule(name)
        down, up = 0.1 * torch.randn(rank, layer.in_features), 0.1 * torch.randn(layer.out_features, rank)
        tensors |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
        tensors[f"transformer.{name}.alpha"] = torch.tensor(alpha)
        changed[name] = (alpha / rank) * up @ down
    save_file(tensors, tmp_path / "a.safetensors")
    LoraCache(flux, 4).apply([wanted(tmp_path / "a.safetensors")])
    ours = answer(flux)
    base = flux.load_transformer()
    for name, change in changed.items():
        base.get_submodule(name).weight.data += change
    torch.testing.assert_close(answer(flux), ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["kohya", "comfy"])
def test_other_forms_of_a_lora_draw_the_same_at_any_scale(flux: FluxFamily, tmp_path: Path, form: str) -> None:
    adapter = Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=3, seed=0, device=flux.device)
    adapter.weights.data += 0.08 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(0))
    paths = export_all(adapter.lora(), FLUX_KEYS, tmp_path, dtype=torch.float32, header={})
    cache = LoraCache(flux, 4)
    for scale in (1.0, 0.4):
        cache.apply([wanted(paths["diffusers"], scale)])
        ours = answer(flux)
        assert cache.apply([wanted(paths[form], scale)]) == []
        assert torch.equal(answer(flux), ours)
