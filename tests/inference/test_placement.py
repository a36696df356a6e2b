"""A device too small for all networks at once: the same images to the bit, and never more on it than there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter
from tests.support.packed import pack

from tintype.errors import OutOfMemory
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.inference.images import ImageInference
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.presets import SPEEDS, Preset
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.write import write_lora
from tintype.models.family import Family
from tintype.models.generating_memory import file_bytes, part_bytes, plan_generating, step_bytes
from tintype.models.placement import ENCODERS, HEADROOM, TRANSFORMER, Offload, demand
from tintype.settings import load_settings

SETTINGS = load_settings(flux_base="miniature", ideogram4_base="miniature", device="cpu")
SIDE = 256  # nominal pixels
RED, BLUE = "a portrait of a person, red hair", "a portrait of a person, blue shirt"
FLUX = FluxImageRequest("", SIDE, SIDE, steps=3)
IDEOGRAM = IdeogramImageRequest("", SIDE, SIDE, "TURBO")
SEEDS = [3, 4]


class Device:
    """The CPU as if it had so many bytes for a base model's weights."""

    def __init__(self, family: Family, size: int) -> None:
        self.family, self.size, self.fullest = family, size, 0
        family.placement.free = lambda: self.size - self.taken()

    def taken(self) -> int:
        """Counts what the networks' tensors take as they lie in memory: a placeholder is one number."""
        family: Any = self.family
        encoders = family._encoders.components.values() if family._encoders else ()
        networks = [*encoders, family._transformer, getattr(family, "_unconditional", None)]
        tensors = [
            tensor
            for network in networks
            if isinstance(network, torch.nn.Module)
            for tensor in (*network.parameters(), *network.buffers())
            if not tensor.is_meta
        ]
        return sum({one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes the fullest moment, at whatever block that is."""

        def look(module: Any, _: Any) -> None:
            if type(module).__name__.endswith(("Block", "Layer", "Decoder")):
                self.fullest = max(self.fullest, self.taken())

        hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
        try:
            yield
        finally:
            hook.remove()


def generate(inference: ImageInference, prompt: str) -> list[bytes]:
    if isinstance(inference, FluxInference):
        return [image.tobytes() for image in inference.generate(replace(FLUX, prompt=prompt), SEEDS)]
    assert isinstance(inference, IdeogramInference)
    request = replace(IDEOGRAM, prompt=prompt)
    return [image.tobytes() for image in inference.generate(request, inference.prepare(request), SEEDS)]


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPEEDS, IDEOGRAM.speed, Preset(steps=4, polished=1, mu=0.5, std=1.75))
        yield


@pytest.fixture(scope="module", params=[FluxInference, IdeogramInference])
def kind(request: pytest.FixtureRequest) -> type[ImageInference]:
    found: type[ImageInference] = request.param
    return found


@pytest.fixture(scope="module")
def loaded(kind: type[ImageInference]) -> ImageInference:
    return ResidentModels(SETTINGS, "cpu").inference(kind)


@pytest.fixture(scope="module")
def undisturbed(loaded: ImageInference) -> dict[str, list[bytes]]:
    return {prompt: generate(loaded, prompt) for prompt in (RED, BLUE)}


def limited(inference: ImageInference, *together: str) -> Device:
    """A device on which these fit at once with what a step takes, and not a tenth of a network more."""
    family: Family = inference.family
    sizes = part_bytes(family)
    beside = file_bytes(family, "vae") + step_bytes(family, SIDE, SIDE) + sizes[TRANSFORMER] // 10
    return Device(family, int((demand([sizes[name] for name in together], beside)) / HEADROOM))


def test_encoders_leave_and_the_images_are_the_same(
    kind: type[ImageInference], loaded: ImageInference, undisturbed: dict[str, list[bytes]]
) -> None:
    """Two requests from the first load on, on a device that holds the networks without what reads text."""
    networks = [name for name in part_bytes(loaded.family) if name != ENCODERS]
    assert loaded.family.placement.moved == 0, "nothing moves where all fits"
    inference = ResidentModels(SETTINGS, "cpu").inference(kind)
    device = limited(inference, *networks)
    with device.watched():
        assert generate(inference, RED) == undisturbed[RED]
        inference.movements()
        plan = plan_generating(inference.family, SIDE, SIDE)
        assert (ENCODERS in plan.leaves, plan.streams, plan.for_step, plan.fits) == (True, False, 0, True)
        assert generate(inference, BLUE) == undisturbed[BLUE]
    assert device.fullest <= plan.needed + file_bytes(inference.family, "vae") <= device.size
    assert inference.family.placement.moved == plan.for_prompt
    (line,) = inference.movements()
    assert "copied from host memory" in line
    assert generate(inference, RED) == undisturbed[RED]
    assert inference.movements() == [], "a prompt that is remembered needs no encoder"


@pytest.mark.parametrize("kind", [IdeogramInference], indirect=True)
def test_one_network_at_a_time(kind: type[ImageInference], undisturbed: dict[str, list[bytes]]) -> None:
    """One comes for a step of all images: the other computes first."""
    inference = ResidentModels(SETTINGS, "cpu").inference(kind)
    family, device = inference.family, limited(inference, TRANSFORMER)
    with device.watched():
        assert generate(inference, RED) == undisturbed[RED]
        inference.movements()
        plan = plan_generating(family, SIDE, SIDE)
        assert generate(inference, BLUE) == undisturbed[BLUE]
    assert device.fullest <= plan.needed + file_bytes(family, "vae") <= device.size
    assert plan.for_step == family.placement.sizes()[TRANSFORMER]
    assert family.placement.moved == plan.for_prompt + SPEEDS[IDEOGRAM.speed].steps * plan.for_step


@pytest.mark.parametrize("kind", [FluxInference], indirect=True)
def test_encoders_that_are_too_large_come_layer_by_layer(
    kind: type[ImageInference], undisturbed: dict[str, list[bytes]]
) -> None:
    inference = ResidentModels(SETTINGS, "cpu").inference(kind)
    family, device = inference.family, limited(inference, TRANSFORMER)
    sizes = part_bytes(family)
    device.size = sizes[ENCODERS]
    family.load_encoders()
    assert not family.placement.has(ENCODERS)
    device.size = limited(inference, TRANSFORMER).size
    with device.watched():
        assert generate(inference, RED) == undisturbed[RED]
    assert device.fullest < sum(sizes.values()) + file_bytes(family, "vae")


@pytest.mark.parametrize("kind", [FluxInference], indirect=True)
def test_a_lora_comes_and_goes_with_its_network(
    kind: type[ImageInference], loaded: ImageInference, undisturbed: dict[str, list[bytes]], tmp_path: Path
) -> None:
    lora = LoraRequest(lora_file(loaded.family, tmp_path))
    loaded.apply_loras([lora])
    with_lora = generate(loaded, RED)
    loaded.apply_loras([])
    inference = ResidentModels(SETTINGS, "cpu").inference(kind)
    limited(inference, TRANSFORMER)
    for loras, wanted in (([lora], with_lora), ([], undisturbed[RED]), ([lora], with_lora)):
        inference.apply_loras(loras)
        assert generate(inference, RED) == wanted
    assert with_lora != undisturbed[RED]


@pytest.mark.parametrize("kind", [FluxInference], indirect=True)
def test_encoders_are_read_again_where_host_memory_has_no_room_for_them(
    kind: type[ImageInference], undisturbed: dict[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host memory for the network alone, which is worth more: it would have to be rounded again, and has LoRAs."""
    inference = ResidentModels(SETTINGS, "cpu").inference(kind)
    family, reads = inference.family, []
    limited(inference, TRANSFORMER)
    host = part_bytes(family)[TRANSFORMER] + part_bytes(family)[ENCODERS] // 2

    def free(*_: object) -> int:
        return host - sum(kept.nbytes for one in family.placement._loaded.values() for kept in one._kept.values())

    monkeypatch.setattr("tintype.models.placement.free_bytes", free)
    read = family._read_encoders
    monkeypatch.setattr(family, "_read_encoders", lambda: reads.append(1) or read())
    for prompt in (RED, BLUE):
        assert generate(inference, prompt) == undisturbed[prompt]
    assert len(reads) >= 2
    assert free() >= 0


def lora_file(family: Family, folder: Path) -> Path:
    adapter = Adapter.for_transformer(
        family.load_transformer(), family.adapter_targets, rank=2, seed=0, device=family.device
    )
    adapter.weights.data += 0.1 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
    path = folder / "a.safetensors"
    return write_lora(adapter.lora(), family.spec.lora_keys, path, form="diffusers", dtype=torch.float32, header={})


@pytest.mark.parametrize("kind", [FluxInference], indirect=True)
def test_an_image_that_cannot_be_decoded_as_a_whole_is_decoded_in_pieces(
    kind: type[ImageInference], loaded: ImageInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of half the side, which look much the same: those of the published size would be all of a miniature's."""
    family = loaded.family
    autoencoder = family.load_encoders().vae
    side, pieces = autoencoder.tile_latent_min_size, list[tuple[int, ...]]()
    monkeypatch.setattr(autoencoder, "tile_latent_min_size", side // 2)
    monkeypatch.setattr(autoencoder, "tile_sample_min_size", autoencoder.tile_sample_min_size // 2)
    latents = family.encode_images(torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0)))
    (whole,) = family.decode_latents(latents)
    autoencoder.decoder.register_forward_pre_hook(lambda _, given: pieces.append(given[0].shape[-2:]))
    with family.placement.taking_turns():  # with no room for anything
        (tiled,) = family.decode_latents(latents)
    assert max(pieces) == (side // 2, side // 2)
    assert len(pieces) == 9
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(tiled)).mean() < 8
    assert not autoencoder.use_tiling


def test_what_is_away_can_be_neither_used_nor_mistaken(loaded: ImageInference) -> None:
    network = loaded.family.load_transformer()
    offload = Offload(torch.device("cpu"), [network])
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    shapes = {name: weight.shape for name, weight in before.items()}
    offload.leave()
    matrices = [weight for weight in network.parameters() if weight.dim() > 1]
    assert all(weight.isnan().all() for weight in matrices)
    assert {name: weight.shape for name, weight in network.named_parameters()} == shapes
    assert sum(weight.untyped_storage().nbytes() for weight in matrices) < offload.size / 1000
    offload.bring()
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


@pytest.mark.parametrize("form", ["bitsandbytes", "gguf"])
def test_packed_weights_come_back_as_they_were(form: str) -> None:
    network = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(64, 64)]))
    layer = network.get_submodule("0.0")
    if form == "bitsandbytes":
        pack(network)
    else:
        gguf = pytest.importorskip("gguf")
        kind, weight = gguf.GGMLQuantizationType.Q8_0, layer.get_parameter("weight").detach().numpy()
        packed = GGUFLinear(64, 64, bias=False, compute_dtype=torch.float32)
        packed.weight = GGUFParameter(torch.from_numpy(gguf.quants.quantize(weight, kind)), quant_type=kind)
        network.set_submodule("0.0", packed)
    layer, given = network.get_submodule("0.0"), torch.ones(1, 64)
    before, kept = layer(given), layer.get_parameter("weight").clone()
    offload = Offload(torch.device("cpu"), [network])
    assert kept.nbytes <= offload.size
    offload.leave()
    assert layer.get_parameter("weight").untyped_storage().nbytes() <= 4
    offload.bring()
    assert torch.equal(layer(given), before)


def test_a_network_stays_where_host_memory_is_too_short_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        network = torch.nn.Linear(8, 8)
    offload = Offload(torch.device("meta"), [network])
    monkeypatch.setattr("tintype.models.placement.free_bytes", lambda: 100)
    with pytest.raises(OutOfMemory, match="Host memory is 1 MiB short"):
        offload.leave()
    assert offload.is_here
