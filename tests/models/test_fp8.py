"""Matrices in eight bits: how far they are off, that nothing else is, and that a base of them trains and generates."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.weightless import NARROW, NARROW_IDEOGRAM, Weightless, WeightlessFlux, WeightlessIdeogram4
from torch import nn

from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.inference.lora_cache import LoraRequest
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.write import write_lora
from tintype.models.family import Family
from tintype.models.flux.model import FluxFamily
from tintype.models.fp8 import Fp8Linear, prepare, rounded, rounded_for, whole
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings
from tintype.training.cache import Cache, Item
from tintype.training.memory_plan import Shape
from tintype.training.plan import Plan
from tintype.training.step import Stepper

CPU = torch.device("cpu")


def round_layers(network: nn.Module, *, keep: bool) -> None:
    """Rounds the layers within blocks to eight bits; with `keep` they stay plain layers, of the rounded numbers."""
    tensors = dict(network.state_dict())
    if keep:
        for layer in (layer for blocks in network.children() if isinstance(blocks, nn.ModuleList)
                      for layer in blocks.modules() if type(layer) is nn.Linear):  # fmt: skip
            layer.weight.data = whole(*rounded(layer.weight.data), layer.weight.dtype)
        return
    prepare(network)
    network.load_state_dict(dict(rounded_for(network, tensors.items())), assign=True)


def narrow(base: str) -> Weightless:
    torch.manual_seed(0)
    return WeightlessFlux(NARROW, CPU, torch.float32) if base == "flux" else WeightlessIdeogram4(
        CPU, torch.float32, NARROW_IDEOGRAM
    )  # fmt: skip


def gradient(family: Weightless, recomputed: int = 0) -> torch.Tensor:
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=2, seed=0, device=CPU, shared=family.fused_targets
    )
    adapter.weights.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    item = Item("a", torch.randn(16, transformer.config.in_channels), 4, 4, 0, None)
    cache = Cache([item], [""], family.random_features(1, 4), "none")
    plan = Plan(steps=1, learning_rate=1e-4, batch_size=1)
    stepper = Stepper(family, adapter, cache, plan, recomputed=recomputed)
    with stepper.prepared():
        stepper.differentiate(0)
    assert adapter.weights.grad is not None
    return adapter.weights.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_number_is_off_by_a_sixteenth_or_by_little_of_its_rows_largest(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(64, 300) * torch.logspace(-6, 3, 64)[:, None]).to(dtype)
    weight[5] = 0
    bits, scale = rounded(weight)
    assert bits.dtype == torch.uint8
    assert scale.shape == (64, 1)
    made = whole(bits, scale, dtype).float()
    allowed = torch.maximum(weight.float().abs() / 14, scale * 2**-9)  # a sixteenth, and bf16's own rounding
    assert ((made - weight.float()).abs() <= allowed).all()
    assert torch.equal(made.abs().amax(1) > 0, weight.abs().amax(1) > 0)


@pytest.mark.parametrize("recomputed", [0, 1])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_base_in_eight_bits_gives_the_gradient_of_the_rounded_numbers(base: str, recomputed: int) -> None:
    plain, eight = narrow(base), narrow(base)
    unrounded = gradient(plain, recomputed)
    round_layers(plain.load_transformer(), keep=True)
    round_layers(eight.load_transformer(), keep=False)
    wanted = gradient(plain, recomputed)
    assert not torch.allclose(wanted, unrounded, rtol=1e-3)
    torch.testing.assert_close(gradient(eight, recomputed), wanted, rtol=1e-4, atol=1e-6)


def test_eight_bits_are_all_that_a_layer_keeps_for_the_backward_pass() -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(64, 32)])
    round_layers(network, keep=False)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda kept: kept):
        network.blocks[0](torch.randn(3, 64, requires_grad=True)).sum().backward()
    assert sorted(tensor.nbytes for tensor in kept) == [32 * 4, 64 * 32]


@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_the_blocks_take_a_quarter_of_what_they_took_in_fp32(base: str) -> None:
    family = narrow(base)
    transformer = family.load_transformer()
    layers = [layer for blocks in transformer.children() if isinstance(blocks, nn.ModuleList)
              for layer in blocks.modules() if type(layer) is nn.Linear]  # fmt: skip
    before = Shape.of(transformer, (1.0,), tokens=20, batch=1, trained=0)
    round_layers(transformer, keep=False)
    after = Shape.of(transformer, (1.0,), tokens=20, batch=1, trained=0)
    assert before.weights - after.weights == 3 * sum(layer.weight.numel() for layer in layers)
    assert after.bytes_per_value == before.bytes_per_value, "activations stay as they are"


def test_never_more_than_one_matrix_is_whole() -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(4)])
    prepare(network)
    alive: list[Any] = []

    def read() -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(4):
            assert sum(seen() is not None for seen in alive) <= 1
            tensor = torch.randn(8, 8)
            alive.append(weakref.ref(tensor))
            yield f"blocks.{number}.weight", tensor

    found = dict(rounded_for(network, read()))
    assert len(found) == 8
    network.load_state_dict(found, assign=True)


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    settings = load_settings(flux_base="miniature", ideogram4_base="miniature", device="cpu", precision="fp8")
    return ResidentModels(settings, "cpu")


@pytest.mark.parametrize("kind", [FluxFamily, Ideogram4Family])
def test_a_base_is_read_in_eight_bits_where_the_setting_says_so(models: ResidentModels, kind: type[Family]) -> None:
    family = models.family(kind)
    networks = [network for network in family._networks().values() if isinstance(network, nn.Module)]
    for network in networks:
        layers = [layer for layer in network.modules() if isinstance(layer, Fp8Linear)]
        assert len(layers) >= len(family.adapter_targets)
        assert not any(tensor.is_meta for tensor in network.state_dict().values())
    assert len(networks) == sum("transformer" in part for part in family.spec.parts)


def test_it_draws_nearly_the_same_with_and_without_a_lora(models: ResidentModels, tmp_path: Path) -> None:
    plain = ResidentModels(load_settings(flux_base="miniature", device="cpu"), "cpu")
    drawn = []
    for each in (plain, models):
        inference = each.inference(FluxInference)
        family = inference.family
        adapter = Adapter.for_transformer(
            family.load_transformer(), family.adapter_targets, rank=2, seed=0, device=CPU, shared=family.fused_targets
        )
        adapter.weights.data.normal_(std=0.4, generator=torch.Generator().manual_seed(1))
        path = tmp_path / "lora.safetensors"
        write_lora(adapter.lora(), family.spec.lora_keys, path, form="diffusers", dtype=torch.float32, header={})
        for loras in ([], [LoraRequest(path)]):
            inference.apply_loras(loras)
            request = FluxImageRequest("a woman in a red coat", 1024, 1024, steps=8)
            (image,) = inference.generate(request, [3])
            drawn.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float())
    base, with_lora, base_fp8, with_lora_fp8 = drawn
    moved = (base - with_lora).abs().mean()
    assert 0 < (base - base_fp8).abs().mean() < moved / 2
    assert 0 < (with_lora - with_lora_fp8).abs().mean() < moved / 2
