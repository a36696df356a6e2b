"""A base whose weights are packed trains as the one that it was made from; only its layers can read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bench.weightless import NARROW, NARROW_IDEOGRAM, Weightless, WeightlessFlux, WeightlessIdeogram4
from tests.support.packed import Params4bit, pack, quantise
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from tintype.lora.adapter import Adapter
from tintype.models.family import Forward
from tintype.models.products import has_matrix
from tintype.models.quantised import QuantisedLinear
from tintype.training.cache import Cache, Item
from tintype.training.memory_plan import Shape, stored_bytes
from tintype.training.plan import Plan
from tintype.training.step import Stepper

CPU = torch.device("cpu")


def narrow(base: str, dtype: torch.dtype = torch.float32) -> Weightless:
    torch.manual_seed(0)
    return WeightlessFlux(NARROW, CPU, dtype) if base == "flux" else WeightlessIdeogram4(CPU, dtype, NARROW_IDEOGRAM)


def block_layers(family: Weightless) -> list[nn.Linear]:
    """The linear layers within the network's blocks."""
    blocks = family.blocks_of(family.load_transformer())
    return [layer for block in blocks for layer in block.modules() if type(layer) is nn.Linear]


def gradient(family: Weightless, forward: Forward | None = None, recomputed: int | None = None) -> torch.Tensor:
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=2, seed=0, device=CPU, shared=family.fused_targets
    )
    adapter.weights.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    item = Item("a", torch.randn(16, transformer.config.in_channels), 4, 4, 0, None)
    cache = Cache([item], [""], family.random_features(1, 4), "none")
    plan = Plan(steps=1, learning_rate=1e-4, batch_size=1)
    stepper = Stepper(family, adapter, cache, plan, recomputed=recomputed, forward=forward)
    with stepper.prepared():
        stepper.differentiate(0)
    assert adapter.weights.grad is not None
    return adapter.weights.grad


@pytest.mark.parametrize("forward", [None, Forward.OWN])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_packed_base_gives_the_gradient_of_its_matrices(base: str, forward: Forward | None) -> None:
    family = narrow(base)
    wanted = gradient(family, Forward.DIFFUSERS)
    pack(family.load_transformer())
    assert wanted.norm() > 0
    torch.testing.assert_close(gradient(family, forward), wanted)


@pytest.mark.parametrize("recomputed", [0, 1])
@pytest.mark.parametrize("precision", ["fp8", "nf4"])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_rounded_base_gives_the_gradient_of_the_rounded_numbers(base: str, precision: str, recomputed: int) -> None:
    plain, packed = narrow(base), narrow(base)
    unrounded = gradient(plain, recomputed=recomputed)
    quantise(packed.load_transformer(), precision)
    for name, layer in packed.load_transformer().named_modules():
        if isinstance(layer, QuantisedLinear):
            plain.load_transformer().get_submodule(name).weight.data = layer.weight
    wanted = gradient(plain, recomputed=recomputed)
    assert not torch.allclose(wanted, unrounded, rtol=1e-3)
    torch.testing.assert_close(gradient(packed, recomputed=recomputed), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp8", "nf4"])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_the_blocks_take_what_is_packed(base: str, precision: str) -> None:
    family = narrow(base)
    transformer, layers = family.load_transformer(), block_layers(family)
    values, rows = (sum(count(layer.weight) for layer in layers) for count in (torch.numel, len))
    before = Shape.of(transformer, (1.0,), tokens=20, batch=1, trained=0)
    quantise(transformer, precision)
    after = Shape.of(transformer, (1.0,), tokens=20, batch=1, trained=0)
    taken = values + 4 * rows if precision == "fp8" else values // 2 + 4 * values // 64
    assert before.weights - after.weights == 4 * values - taken
    assert after.bytes_per_value == before.bytes_per_value, "activations stay as they are"


def test_one_packed_layer_is_enough_to_leave_our_own_order_of_work() -> None:
    family = narrow("flux")
    assert family.forward_for(Forward.OWN) is Forward.OWN
    pack(family.blocks_of(family.load_transformer())[-1])
    assert family.forward_for(Forward.OWN) is Forward.DIFFUSERS


def test_only_a_plain_layer_of_whole_numbers_has_a_matrix() -> None:
    assert has_matrix(nn.Linear(4, 4))
    assert has_matrix(nn.Linear(4, 4, dtype=torch.bfloat16))
    eight, packed, wrapped = (nn.Linear(4, 4) for _ in range(3))
    eight.weight = nn.Parameter(eight.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    packed.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    wrapped.weight = nn.Parameter(TwoTensor(torch.zeros(4, 4), torch.zeros(4, 4)))
    assert not any(map(has_matrix, (eight, packed, wrapped, nn.LayerNorm(4), type("Other", (nn.Linear,), {})(4, 4))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_the_size_of_a_packed_base_is_what_is_stored(base: str, dtype: torch.dtype) -> None:
    family = narrow(base, dtype)
    transformer = family.load_transformer()
    plain = Shape.of(transformer, (1.0,), tokens=20, batch=1, trained=0)
    assert plain.weights == sum(p.numel() for p in transformer.parameters()) * dtype.itemsize
    pack(transformer)
    packed = Shape.of(transformer, (1.0,), tokens=20, batch=1, trained=0)
    scales = sum(p.quant_state.absmax.nbytes for p in transformer.parameters() if isinstance(p, Params4bit))
    assert packed == replace(plain, weights=plain.weights + scales), "activations stay as they are"


def test_a_weight_of_several_tensors_takes_what_they_take() -> None:
    small = TwoTensor(torch.zeros(4, 8, dtype=torch.uint8), torch.zeros(4, 8, dtype=torch.uint8))
    assert stored_bytes(nn.Parameter(small, requires_grad=False)) == 64
    twice = Params4bit(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    twice.quant_state = SimpleNamespace(absmax=torch.zeros(3), state2=SimpleNamespace(absmax=torch.zeros(2)))
    assert stored_bytes(twice) == 8 + 12 + 8


def test_layers_are_named_from_the_configuration_of_a_quantised_base(tmp_path: Path) -> None:
    plain = narrow("flux")
    plain.load_transformer().save_config(tmp_path / "transformer")
    path = tmp_path / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    )
    family = narrow("flux")
    family.weights = replace(family.weights, folder=tmp_path)
    family.unload()
    assert family.adapter_targets == plain.adapter_targets
