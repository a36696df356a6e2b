"""The exported file, and the proof that it works; and that the proof fails where it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.training.test_memory_plan import features_for

from tintype.dataset import Bucket, Dataset, DatasetReport, Example
from tintype.errors import UnprovenAdapter
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.read import read_lora
from tintype.lora.write import write_lora
from tintype.models.family import Family
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings
from tintype.training.cache import Cache, Item, encode_once
from tintype.training.prove import prove

HEADER = {"modelspec.title": "t"}


@pytest.fixture(scope="module")
def flux() -> FluxFamily:
    return ResidentModels(load_settings(), "cpu").family(FluxFamily)


@pytest.fixture(scope="module")
def cache(flux: FluxFamily, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    example = Example("a", Image.new("RGB", (512, 512), "red"), "TOK", (Bucket(512, 512),))
    return encode_once(flux, Dataset([example], DatasetReport()), tmp_path_factory.mktemp("latents"))


@pytest.fixture
def adapter(flux: FluxFamily) -> Adapter:
    made = Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=4, seed=0, device=flux.device)
    made.weights.data += 0.05 * torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(1))
    return made


def exported(adapter: Adapter, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    return write_lora(adapter.lora(), FLUX_KEYS, path, form="diffusers", dtype=dtype, header=HEADER)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_tensor_arrives_and_does_what_was_trained(
    flux: FluxFamily, cache: Cache, adapter: Adapter, tmp_path: Path, dtype: torch.dtype
) -> None:
    proof = prove(flux, exported(adapter, tmp_path / "a.safetensors", dtype), adapter.lora(), cache)
    assert proof.keys == 2 * len(flux.adapter_targets)
    assert proof.change > 0.01
    assert proof.error < 0.02 * proof.change


@pytest.mark.parametrize("kind", [FluxFamily, Ideogram4Family])
def test_the_transformer_is_all_that_is_needed(
    kind: type[Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that trained a LoRA may have no room for the text encoders, or a second transformer."""
    family: Family = ResidentModels(load_settings(flux_base="miniature", ideogram4_base="miniature"), "cpu").family(
        kind
    )
    transformer = family.load_transformer()
    for loads in ("load_encoders", "load_unconditional"):
        monkeypatch.setattr(
            family, loads, lambda: pytest.fail("more than the transformer was asked for"), raising=False
        )
    targets, keys = family.adapter_targets, family.spec.lora_keys
    made = Adapter.for_transformer(
        transformer, targets, rank=2, seed=0, device=family.device, shared=family.fused_targets
    )
    made.weights.data += 0.05 * torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(1))
    item = Item("a", torch.randn(16, transformer.config.in_channels), 4, 4, 0, None)
    path = write_lora(made.lora(), keys, tmp_path / "a.safetensors", form="diffusers", dtype=torch.float32, header={})
    proof = prove(family, path, made.lora(), Cache([item], [""], features_for(transformer, 4, 1), "none"))
    assert proof.keys == 2 * len(targets)


def test_an_adapter_that_learned_nothing_is_not_handed_over(flux: FluxFamily, cache: Cache, tmp_path: Path) -> None:
    fresh = Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=4, seed=0, device=flux.device)
    with pytest.raises(UnprovenAdapter, match="does not change"):
        prove(flux, exported(fresh, tmp_path / "a.safetensors"), fresh.lora(), cache)


def test_a_file_that_lost_a_layer_is_not_handed_over(
    flux: FluxFamily, cache: Cache, adapter: Adapter, tmp_path: Path
) -> None:
    path = exported(adapter, tmp_path / "a.safetensors")
    tensors = {key: tensor for key, tensor in load_file(path).items() if "transformer_blocks.0.attn.to_q." not in key}
    save_file(tensors, path)
    with pytest.raises(UnprovenAdapter):
        prove(flux, path, adapter.lora(), cache)


def test_a_file_whose_factors_are_swapped_is_not_handed_over(
    flux: FluxFamily, cache: Cache, adapter: Adapter, tmp_path: Path
) -> None:
    path = exported(adapter, tmp_path / "a.safetensors")
    wrong = {key: -tensor if "lora_B" in key else tensor for key, tensor in load_file(path).items()}
    save_file(wrong, path)
    with pytest.raises(UnprovenAdapter, match="something else"):
        prove(flux, path, adapter.lora(), cache)


def test_the_pipeline_is_bare_after_the_proof(flux: FluxFamily, cache: Cache, adapter: Adapter, tmp_path: Path) -> None:
    prove(flux, exported(adapter, tmp_path / "a.safetensors"), adapter.lora(), cache)
    read_lora(tmp_path / "a.safetensors", FLUX_KEYS).check_fits(flux.load_transformer(), FLUX_KEYS)
    assert not any("lora" in name for name, _ in flux.load_transformer().named_modules())
