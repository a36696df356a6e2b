"""Matrices in eight and four bits: how far they are off, that nothing else is, and that a base of them generates."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.packed import quantise
from torch import nn

from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.inference.lora_cache import LoraRequest
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.write import write_lora
from tintype.models.family import Family
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.quantised import QuantisedLinear, byte_levels, prepare, rounded, rounded_for, whole
from tintype.settings import load_settings

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_number_is_off_by_a_sixteenth_or_by_little_of_its_rows_largest(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(64, 300) * torch.logspace(-6, 3, 64)[:, None]).to(dtype)
    weight[5] = 0
    codes, scale = rounded(weight, "fp8")
    assert codes.dtype == torch.uint8
    assert scale.shape == (64, 1)
    made = whole(codes, scale, None, 64).float()
    assert made.shape == weight.shape
    allowed = torch.maximum(weight.float().abs() / 14, scale * 2**-9)  # a sixteenth, and bf16's own rounding
    assert ((made - weight.float()).abs() <= allowed).all()
    assert torch.equal(made.abs().amax(1) > 0, weight.abs().amax(1) > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_bits_are_the_nearest_of_the_levels(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(6, 96) * torch.logspace(-6, 3, 6)[:, None]).to(dtype)  # 64 numbers may go over a row's end
    weight[2] = 0
    codes, scale = rounded(weight, "nf4")
    assert codes.nbytes + scale.nbytes == 6 * 96 // 2 + 9 * dtype.itemsize
    pairs = byte_levels(dtype, "cpu")
    levels = byte_levels(torch.float32, "cpu")[:16, 1]
    made = whole(codes, scale, pairs, 6)
    blocks = weight.reshape(9, 64).float() / scale.float()
    nearest = levels[(blocks[..., None] - levels).abs().argmin(-1)]
    assert torch.equal(made, (nearest.to(dtype) * scale).view(6, 96))
    assert torch.equal(made[2], weight[2])
    largest = weight.reshape(9, 64).abs().amax(1)
    assert torch.equal(made.reshape(9, 64).abs().amax(1), largest), "the largest number of each 64 stays as it is"


def test_levels_are_used_equally_often_by_a_normal_distribution() -> None:
    end = 0.5 * ((1 - 1 / 32) + (1 - 1 / 30))  # as the publication's program computes them
    above = torch.special.ndtri(torch.linspace(end, 0.5, 9, dtype=torch.float64)[:-1]).flip(0)
    below = -torch.special.ndtri(torch.linspace(end, 0.5, 8, dtype=torch.float64)[:-1])
    wanted = torch.cat([below, torch.zeros(1), above]) / above.max()
    torch.testing.assert_close(byte_levels(torch.float64, "cpu")[:16, 1], wanted, rtol=0, atol=2e-7)


@pytest.mark.parametrize(("precision", "bytes_kept"), [("fp8", [32 * 4, 64 * 32]), ("nf4", [32 * 4, 32 * 32, 256 * 8])])
def test_what_is_packed_is_all_that_a_layer_keeps_for_the_backward_pass(precision: str, bytes_kept: list[int]) -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(64, 32)])
    quantise(network, precision)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda kept: kept):
        network.blocks[0](torch.randn(3, 64, requires_grad=True)).sum().backward()
    assert sorted(tensor.nbytes for tensor in kept) == bytes_kept


@pytest.mark.parametrize("precision", ["fp8", "nf4"])
def test_never_more_than_one_matrix_is_whole(precision: str) -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(4)])
    prepare(network, precision, torch.float32, "cpu")
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


@pytest.fixture(scope="module", params=["fp8", "nf4"])
def models(request: pytest.FixtureRequest) -> ResidentModels:
    settings = load_settings(flux_base="miniature", ideogram4_base="miniature", device="cpu", precision=request.param)
    return ResidentModels(settings, "cpu")


@pytest.mark.parametrize("kind", [FluxFamily, Ideogram4Family])
def test_a_base_is_read_rounded_where_the_setting_says_so(models: ResidentModels, kind: type[Family]) -> None:
    family = models.family(kind)
    networks = [network for network in family._networks().values() if isinstance(network, nn.Module)]
    for network in networks:
        layers = [layer for layer in network.modules() if isinstance(layer, QuantisedLinear)]
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
    base, with_lora, rounded_base, rounded_with_lora = drawn
    moved = (base - with_lora).abs().mean()
    assert 0 < (base - rounded_base).abs().mean() < moved / 2
    assert 0 < (with_lora - rounded_with_lora).abs().mean() < moved / 2
