"""The files that are handed over, in every form: what others expect to find, and the same LoRA when read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.support.peer_loras import SHAPES, every_peer, written

from tintype.errors import UnprovenAdapter
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.keys import METADATA_KEY
from tintype.lora.lora import linear_shapes
from tintype.lora.read import read_lora
from tintype.lora.write import write_lora
from tintype.models.flux import EDITIONS
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import FluxFamily, adapter_targets
from tintype.settings import load_settings
from tintype.training.export import check_written, export_all, header

FORMS = [form.name for form in FLUX_KEYS.forms]
HEADER = header(
    title="Portrait of TOK",
    trigger="TOK",
    base="miniature",
    steps=3,
    licence="free",
    notice="as it is",
    resolution="1024x1024",
    settings={"learning_rate": 9e-5, "seed": 7, "sigma": "logit-normal"},
    facts={},
)


@pytest.fixture
def adapter() -> Adapter:
    return filled(Adapter(SHAPES, 4, 4.0, torch.device("cpu")))


def filled(adapter: Adapter, spread: float = 1.0) -> Adapter:
    adapter.weights.data.normal_(std=spread, generator=torch.Generator().manual_seed(0))
    return adapter


@pytest.mark.parametrize("form", FORMS)
def test_an_edition_of_the_base_is_named_in_each_form(adapter: Adapter, tmp_path: Path, form: str) -> None:
    facts = HEADER | dict(EDITIONS[0].facts)
    path = export_all(adapter.lora(), FLUX_KEYS, tmp_path, dtype=torch.float32, header=facts)[form]
    with safe_open(path, "pt") as opened:
        told = opened.metadata()
    assert told["modelspec.architecture"] == "flux-1-schnell/lora"
    assert told["ss_base_model_version"] == "flux1-schnell"
    assert told["ss_network_module"] == "networks.lora_flux"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [4.0, 1.0])
def test_what_is_read_back_is_what_was_trained_to_the_bit(
    adapter: Adapter, tmp_path: Path, form: str, alpha: float
) -> None:
    adapter.alpha = alpha
    path = export_all(adapter.lora(), FLUX_KEYS, tmp_path, dtype=torch.float32, header=HEADER)[form]
    lora = read_lora(path, FLUX_KEYS)
    assert set(lora.pairs) == set(SHAPES)
    assert (lora.text_keys, lora.shifts) == ((), {})
    for name, (down, up) in adapter.layers.items():
        pair = lora.pairs[name]
        assert torch.equal(pair.down, down)
        assert torch.equal(pair.up, up)
        assert pair.alpha == alpha


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("peer", ["kohya sd-scripts", "x-flux", "OneTrainer"])
def test_a_peers_file_can_be_written_in_each_form(tmp_path: Path, form: str, peer: str) -> None:
    tensors, _ = every_peer()[peer]
    lora = read_lora(written(tmp_path / "theirs", tensors), FLUX_KEYS)
    path = write_lora(lora, FLUX_KEYS, tmp_path / "a.safetensors", form=form, dtype=torch.float32, header={})
    check_written(path, lora, FLUX_KEYS, dtype=torch.float32)


def test_the_header_says_what_the_file_is(adapter: Adapter, tmp_path: Path) -> None:
    written = export_all(adapter.lora(), FLUX_KEYS, tmp_path, dtype=torch.bfloat16, header=HEADER)
    for form, path in written.items():
        with safe_open(path, framework="pt") as opened:
            told = opened.metadata()
        assert told["modelspec.title"] == "Portrait of TOK"
        assert told["modelspec.trigger_phrase"] == "TOK"
        assert told["modelspec.license"] == "free"
        assert told["modelspec.architecture"] == "flux-1-dev/lora"
        assert told["tintype.base"] == told["ss_sd_model_name"] == "miniature"
        assert (told["ss_network_dim"], told["ss_network_alpha"], told["ss_seed"]) == ("4", "4", "7")
        assert json.loads(told["tintype.settings"])["sigma"] == "logit-normal"
        content = path.read_bytes()
        data = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
        assert (told["sshs_model_hash"], told["modelspec.hash_sha256"]) == (data, f"0x{data}")
        assert len(told["sshs_legacy_hash"]) == 8
        assert (METADATA_KEY in told) == (form == "diffusers")
    assert json.loads(read_lora(tmp_path / "lora.safetensors", FLUX_KEYS).header[METADATA_KEY])["transformer.r"] == 4


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_changed_after_writing_is_not_handed_over(adapter: Adapter, tmp_path: Path, form: str) -> None:
    lora, path = adapter.lora(), tmp_path / "a.safetensors"
    write_lora(lora, FLUX_KEYS, path, form=form, dtype=torch.float32, header=HEADER)
    good = load_file(path)
    first = next(key for key in good if key.endswith(".weight"))
    layer = first.rsplit(".", 2)[0]
    for wrong in (
        {**good, first: good[first] * 1.01},
        {key: tensor for key, tensor in good.items() if not key.startswith(f"{layer}.")},
        {**good, first: torch.full_like(good[first], float("nan"))},
        {**good, "something.else": torch.zeros(1)},
    ):
        save_file(wrong, path)
        with pytest.raises(UnprovenAdapter):
            check_written(path, lora, FLUX_KEYS, dtype=torch.float32)


@pytest.fixture(scope="module")
def real() -> FluxTransformer2DModel:
    """FLUX.1 [dev] without its weights."""
    with torch.device("meta"):
        return FluxTransformer2DModel(guidance_embeds=True)


@pytest.fixture(scope="module")
def real_files(real: FluxTransformer2DModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter of rank 2 over every layer that is trained of the real model, in each form."""
    shapes = {name: linear_shapes(real)[name] for name in adapter_targets(real)}
    adapter = filled(Adapter(shapes, 2, 2.0, torch.device("cpu")), 0.1)
    folder = tmp_path_factory.mktemp("real")
    return export_all(adapter.lora(), FLUX_KEYS, folder, dtype=torch.bfloat16, header=HEADER)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as opened:
        return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118


def expected_diffusers() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The table of published diffusers files: key and shape, at rank 2."""
    wide, mlp = 3072, 12288
    double = {
        **dict.fromkeys(("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"), (wide, wide)),
        **dict.fromkeys(("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"), (wide, wide)),
        **dict.fromkeys(("ff.net.0.proj", "ff_context.net.0.proj"), (mlp, wide)),
        **dict.fromkeys(("ff.net.2", "ff_context.net.2"), (wide, mlp)),
    }
    single = {
        **dict.fromkeys(("attn.to_q", "attn.to_k", "attn.to_v"), (wide, wide)),
        "proj_mlp": (mlp, wide),
        "proj_out": (wide, wide + mlp),
    }
    for stem, count, parts in (("transformer_blocks", 19, double), ("single_transformer_blocks", 38, single)):
        for number in range(count):
            for part, (out, into) in parts.items():
                yield f"transformer.{stem}.{number}.{part}.lora_A.weight", (2, into)
                yield f"transformer.{stem}.{number}.{part}.lora_B.weight", (out, 2)


def expected_original(prefix: str, dot: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The table of published kohya and ComfyUI files, where n layers of rank 2 are fused into one of rank 2n."""
    double: dict[str, tuple[int, int, int]] = {}
    for stream in ("img", "txt"):
        double |= {
            f"{stream}_attn{dot}qkv": (9216, 3072, 3),
            f"{stream}_attn{dot}proj": (3072, 3072, 1),
            f"{stream}_mlp{dot}0": (12288, 3072, 1),
            f"{stream}_mlp{dot}2": (3072, 12288, 1),
        }
    single = {"linear1": (21504, 3072, 4), "linear2": (3072, 15360, 1)}
    for stem, count, parts in (("double_blocks", 19, double), ("single_blocks", 38, single)):
        for number in range(count):
            for part, (out, into, fused) in parts.items():
                name = f"{prefix}{stem}{dot}{number}{dot}{part}"
                yield f"{name}.lora_down.weight", (2 * fused, into)
                yield f"{name}.lora_up.weight", (out, 2 * fused)
                yield f"{name}.alpha", ()


def test_every_key_of_the_real_model_is_the_one_others_look_for(real_files: dict[str, Path]) -> None:
    assert shapes_in(real_files["diffusers"]) == dict(expected_diffusers())
    assert shapes_in(real_files["kohya"]) == dict(expected_original("lora_unet_", "_"))
    assert shapes_in(real_files["comfy"]) == dict(expected_original("diffusion_model.", "."))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_for_the_real_model_fits_it(
    real: FluxTransformer2DModel, real_files: dict[str, Path], form: str
) -> None:
    lora = read_lora(real_files[form], FLUX_KEYS)
    lora.check_fits(real, FLUX_KEYS)
    assert set(lora.pairs) == set(adapter_targets(real))
    assert all(pair.rank == pair.alpha == 2 for pair in lora.pairs.values())


@pytest.mark.parametrize("form", FORMS)
def test_diffusers_own_converter_finds_every_layer_with_the_same_values(real_files: dict[str, Path], form: str) -> None:
    """It knows kohya's and ComfyUI's form of the real model only: it counts on 19 and 38 blocks 3072 wide."""
    wanted = load_file(real_files["diffusers"])
    path = real_files[form]
    state = FluxPipeline.lora_state_dict(str(path.parent), weight_name=path.name, local_files_only=True)
    assert set(state) == set(wanted)
    assert all(torch.equal(state[key], tensor) for key, tensor in wanted.items())


def test_the_real_model_itself_takes_every_key(real_files: dict[str, Path]) -> None:
    """Loaded by diffusers into the real configuration: nothing unexpected, nothing missing."""
    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    path = real_files["kohya"]
    state = FluxPipeline.lora_state_dict(str(path.parent), weight_name=path.name, local_files_only=True)
    FluxPipeline.load_lora_into_transformer(state, None, model, adapter_name="a", low_cpu_mem_usage=True, metadata=None)
    taken = {
        f"transformer.{name.replace('.a.', '.')}": tensor.shape
        for name, tensor in model.named_parameters()
        if ".lora_" in name
    }
    assert taken == {key: tensor.shape for key, tensor in state.items()}


@pytest.mark.parametrize("form", ["kohya", "comfy"])
def test_a_plain_pipeline_draws_the_same_picture_from_each_form(tmp_path: Path, form: str) -> None:
    """Of double blocks only: diffusers splits a fused single block at the real model's widths whatever the model is."""
    flux = ResidentModels(load_settings(), "cpu").family(FluxFamily)
    targets = tuple(name for name in flux.adapter_targets if name.startswith("transformer_blocks."))
    adapter = Adapter.for_transformer(flux.load_transformer(), targets, rank=3, seed=0, device=flux.device)
    adapter.weights.data += 0.08 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
    paths = export_all(adapter.lora(), FLUX_KEYS, tmp_path, dtype=torch.float32, header=HEADER)
    drawn = {}
    for loaded in (None, "diffusers", form):
        pipeline = flux.fresh_pipeline()
        if loaded:
            pipeline.load_lora_weights(str(tmp_path), weight_name=paths[loaded].name, local_files_only=True)
        call = {"width": 64, "height": 64, "num_inference_steps": 2, "max_sequence_length": flux.max_sequence_length}
        generator = torch.Generator().manual_seed(3)
        drawn[loaded] = np.asarray(pipeline("a portrait", generator=generator, **call).images[0]).astype(int)
        pipeline.unload_lora_weights()
    assert np.abs(drawn[form] - drawn["diffusers"]).max() <= 1
    assert np.abs(drawn[form] - drawn[None]).max() > 5
