"""Pictures: reproducible to the bit, and the very ones that a plain diffusers pipeline draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tintype.errors import Cancelled
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.inference.lora_cache import LoraRequest
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.write import write_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.settings import load_settings

REQUEST = FluxImageRequest("a portrait of TOK, blue shirt", 512, 768, steps=4)

PLAIN = """
import sys, torch
from diffusers import FluxPipeline
base, lora, window, out, *scales = sys.argv[1:]
pipeline = FluxPipeline.from_pretrained(base)
folder, name = lora.rsplit("/", 1)
pipeline.load_lora_weights(folder, weight_name=name, adapter_name="it")
for scale in scales:
    pipeline.set_adapters(["it"], [float(scale)])
    picture = pipeline(
        "a portrait of TOK, blue shirt", width=32, height=48, num_inference_steps=4, guidance_scale=3.5,
        max_sequence_length=int(window), generator=torch.Generator("cpu").manual_seed(11),
    ).images[0]
    picture.save(f"{out}/{scale}.png")
assert not any(name.startswith("tintype") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def inference() -> FluxInference:
    return ResidentModels(load_settings(), "cpu").inference(FluxInference)


@pytest.fixture(scope="module")
def lora(inference: FluxInference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    flux = inference.family
    adapter = Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=4, seed=0, device=flux.device)
    adapter.weights.data += 0.08 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    return write_lora(adapter.lora(), FLUX_KEYS, path, form="diffusers", dtype=torch.float32, header={})


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def test_picture_k_of_a_batch_is_the_single_picture_of_its_seed(inference: FluxInference) -> None:
    together = inference.generate(REQUEST, [7, 8, 9])
    for seed, picture in zip([7, 8, 9], together, strict=True):
        assert (levels(picture) == levels(inference.generate(REQUEST, [seed])[0])).all()
    assert (levels(together[0]) != levels(together[1])).any()


def test_pictures_have_the_drawn_size(inference: FluxInference) -> None:
    assert inference.generate(REQUEST, [1])[0].size == inference.family.true_size(512, 768) == (32, 48)


def test_a_plain_pipeline_in_another_process_draws_the_same_with_our_file(
    inference: FluxInference, lora: Path, tmp_path: Path
) -> None:
    flux = inference.family
    command = [sys.executable, "-W", "ignore", "-c", PLAIN, str(flux.weights.folder), str(lora)]
    command += [str(flux.max_sequence_length), str(tmp_path), "1.0", "0.5"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    base = inference.generate(REQUEST, [11])[0]
    for scale in (1.0, 0.5):
        inference.apply_loras([LoraRequest(lora, scale)])
        ours = inference.generate(REQUEST, [11])[0]
        inference.apply_loras([])
        with Image.open(tmp_path / f"{scale}.png") as plain:
            assert np.abs(levels(ours) - levels(plain)).max() <= 1
        assert np.abs(levels(ours) - levels(base)).max() > 3, "the LoRA has to be visible here"


def test_every_step_is_told_and_may_stop_the_drawing(inference: FluxInference) -> None:
    told: list[tuple[int, int]] = []
    inference.generate(REQUEST, [1, 2], lambda done, total: told.append((done, total)))
    assert told == [(step, 8) for step in range(1, 9)]

    def stop(done: int, total: int) -> None:
        raise Cancelled()

    with pytest.raises(Cancelled):
        inference.generate(REQUEST, [1], stop)
    assert inference.generate(REQUEST, [1])[0].size == (32, 48)


def test_a_picture_with_biases_is_that_of_a_base_with_the_biases_added_by_hand(
    inference: FluxInference, lora: Path, tmp_path: Path
) -> None:
    tensors = load_file(lora)
    layers = sorted({key.rpartition(".lora_")[0] for key in tensors})[:4]
    generator = torch.Generator().manual_seed(0)
    biases = {layer: torch.randn(len(tensors[f"{layer}.lora_B.weight"]), generator=generator) for layer in layers}
    save_file({**tensors, **{f"{layer}.lora_B.bias": bias for layer, bias in biases.items()}}, tmp_path / "biased")
    plain, with_biases = LoraRequest(lora, 0.8), LoraRequest(tmp_path / "biased", 0.8)

    def drawn(*loras: LoraRequest) -> np.ndarray:
        assert inference.apply_loras(loras) == []
        return levels(inference.generate(REQUEST, [3])[0])

    bare, without, ours = drawn(), drawn(plain), drawn(with_biases)
    assert (ours != without).any()
    transformer = inference.family.load_transformer()
    own = [transformer.get_submodule(layer.removeprefix("transformer.")) for layer in layers]
    before = [layer.bias.clone() for layer in own]
    for layer, bias in zip(own, biases.values(), strict=True):
        layer.bias.data += 0.8 * bias
    assert (drawn(plain) == ours).all()
    for layer, bias in zip(own, before, strict=True):
        layer.bias.data.copy_(bias)
    assert (drawn() == bare).all()
    assert (drawn(with_biases) == ours).all()


def test_a_second_prefix_draws_the_same_picture(inference: FluxInference, lora: Path, tmp_path: Path) -> None:
    twice = {
        key.replace("transformer.", "transformer.base_model.model.", 1): part for key, part in load_file(lora).items()
    }
    with safe_open(lora, framework="pt") as opened:
        save_file(twice, tmp_path / "twice", opened.metadata())
    pictures = []
    for path in (lora, tmp_path / "twice"):
        assert inference.apply_loras([LoraRequest(path)]) == []
        pictures.append(levels(inference.generate(REQUEST, [3])[0]))
    assert (pictures[0] == pictures[1]).all()
