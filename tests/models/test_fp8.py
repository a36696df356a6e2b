"""Matrices in eight bits: how far they are off, that nothing else is, and that a base of them trains and generates."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.packed import round_to_fp8
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

CPU = torch.device("cpu")


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


def test_eight_bits_are_all_that_a_layer_keeps_for_the_backward_pass() -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(64, 32)])
    round_to_fp8(network)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda kept: kept):
        network.blocks[0](torch.randn(3, 64, requires_grad=True)).sum().backward()
    assert sorted(tensor.nbytes for tensor in kept) == [32 * 4, 64 * 32]


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
