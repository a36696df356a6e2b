"""The trained part, without any model around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tintype.errors import UnusableAdapter
from tintype.lora.adapter import Adapter, LoraLinear, attached


class Base(nn.Module):
    """Two layers, the second inside a list, as in attention's to_out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 10)
        self.out = nn.ModuleList([nn.Linear(10, 4)])
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.out[0](self.first(x).relu())
        return result


TARGETS = ("first", "out.0")


def adapter_of(base: Base, rank: int = 3, seed: int = 0) -> Adapter:
    return Adapter.for_transformer(base, TARGETS, rank=rank, seed=seed, device=torch.device("cpu"))


def test_a_new_adapter_changes_nothing() -> None:
    base, x = Base(), torch.randn(5, 6)
    before = base(x)
    with adapter_of(base).attached(base):
        torch.testing.assert_close(base(x), before, rtol=0, atol=0)


def test_the_side_path_is_alpha_over_rank_up_times_down() -> None:
    base, x = Base(), torch.randn(5, 6)
    adapter = adapter_of(base)
    adapter.weights.data.normal_()
    adapter.alpha = 1.5
    merged = Base()
    for name, (down, up) in adapter.layers.items():
        layer: Any = merged.get_submodule(name)
        layer.weight.data += (1.5 / 3) * up.data @ down.data
    with adapter.attached(base):
        torch.testing.assert_close(base(x), merged(x))


def test_gradients_of_all_layers_arrive_in_the_one_flat_buffer() -> None:
    base, adapter = Base(), adapter_of(Base())
    with adapter.attached(base):
        for _ in range(2):
            base(torch.randn(5, 6)).sum().backward()
    gradient = adapter.weights.grad
    assert gradient is not None
    for down, up in adapter.layers.values():
        for part in (down, up):
            assert part.grad is not None
            start = gradient.data_ptr()
            assert start <= part.grad.data_ptr() < start + gradient.numel() * 4
    assert gradient.abs().sum() > 0
    assert base.first.weight.grad is None


def test_the_model_is_bare_again_even_after_an_error() -> None:
    base, broken = Base(), Base()
    broken.out[0] = nn.Identity()
    with pytest.raises(AssertionError), adapter_of(base).attached(broken):
        pass
    assert isinstance(broken.first, nn.Linear)
    with adapter_of(base).attached(base):
        assert isinstance(base.first, LoraLinear)
    assert isinstance(base.first, nn.Linear)
    assert isinstance(base.out[0], nn.Linear)


def test_the_start_depends_on_the_seed_alone() -> None:
    same, other = adapter_of(Base(), seed=1), adapter_of(Base(), seed=2)
    assert torch.equal(adapter_of(Base(), seed=1).weights, same.weights)
    assert not torch.equal(same.weights, other.weights)


def test_an_earlier_lora_goes_on_at_the_strength_it_had() -> None:
    base, x = Base(), torch.randn(5, 6)
    old = adapter_of(base, seed=4)
    old.weights.data.normal_()
    old.alpha = 6.0
    with old.attached(base):
        wanted = base(x)
    fresh = adapter_of(base)
    fresh.start_from(old.lora())
    assert set(old.lora().startable(fresh.layers, fresh.rank)) == set(TARGETS)
    with fresh.attached(base):
        torch.testing.assert_close(base(x), wanted)


def test_an_earlier_lora_of_a_smaller_rank_is_filled_up_and_does_the_same() -> None:
    base, x = Base(), torch.randn(5, 6)
    old = adapter_of(base, rank=2, seed=4)
    old.weights.data.normal_()
    with old.attached(base):
        wanted = base(x)
    fresh = adapter_of(base)
    fresh.start_from(old.lora())
    with fresh.attached(base):
        torch.testing.assert_close(base(x), wanted)
    for down, up in fresh.layers.values():
        assert down[2:].any()  # what was added can learn
        assert not up[:, 2:].any()


def test_an_earlier_lora_of_a_larger_rank_is_refused_with_both_ranks() -> None:
    lora = adapter_of(Base(), rank=4).lora()
    fresh = adapter_of(Base(), rank=3)
    before = fresh.weights.data.clone()
    with pytest.raises(UnusableAdapter, match=r"rank 4.*rank 3"):
        fresh.start_from(lora)
    assert torch.equal(fresh.weights.data, before)


def test_the_lora_may_be_taken_from_other_weights() -> None:
    adapter = adapter_of(Base())
    doubled = adapter.lora(adapter.weights.data * 2)
    for name, pair in adapter.lora().pairs.items():
        torch.testing.assert_close(doubled.pairs[name].down, 2 * pair.down)


def test_a_lora_that_is_attached_does_what_its_adapter_does() -> None:
    base, x, adapter = Base(), torch.randn(5, 6), adapter_of(Base())
    adapter.weights.data.normal_()
    adapter.alpha = 1.5
    with adapter.attached(base):
        wanted = base(x)
    with attached(base, adapter.lora().pairs):
        assert torch.equal(base(x), wanted)
    assert isinstance(base.first, nn.Linear)


def test_layers_that_share_what_reads_have_one_down_and_its_gradient_is_their_sum() -> None:
    base, x = nn.ModuleDict({name: nn.Linear(6, 4) for name in "qkv"}).requires_grad_(False), torch.randn(5, 6)
    shapes = dict.fromkeys("qkv", (4, 6))
    apart = Adapter(shapes, 2, 2.0, torch.device("cpu"))
    together = Adapter(shapes, 2, 2.0, torch.device("cpu"), shared=[("q", "k", "v")])
    assert together.weights.numel() == apart.weights.numel() - 2 * 2 * 6
    start = torch.randn(2, 6)
    gradients = {}
    for adapter in (apart, together):
        adapter.require_gradients()
        for number, (down, up) in enumerate(adapter.layers.values()):
            down.data.copy_(start)
            up.data.copy_(torch.randn(4, 2, generator=torch.Generator().manual_seed(number)))
        with adapter.attached(base):
            sum(base[name](x).square().sum() for name in "qkv").backward()
        gradients[id(adapter)] = [down.grad for down, _ in adapter.layers.values()]
    torch.testing.assert_close(gradients[id(together)][0], sum(gradients[id(apart)]))
    for name, pair in together.lora().pairs.items():
        assert torch.equal(pair.down, start)
        assert torch.equal(pair.up, apart.layers[name][1])
