"""Products with side paths: every shortcut gives what the plain layers give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tintype.lora.adapter import Adapter
from tintype.models.products import AdaptedProduct, Part, product

SCALE = 0.5


class Two(nn.Module):
    """Two layers that read the same input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 10), nn.Linear(6, 4)
        self.requires_grad_(False)


def parts_of(base: Two) -> tuple[Adapter, list[Part]]:
    adapter = Adapter.for_transformer(base, ("a", "b"), rank=3, seed=0, device=torch.device("cpu"))
    adapter.alpha = SCALE * 3
    adapter.weights.data.normal_(generator=torch.Generator().manual_seed(1))
    adapter.require_gradients()
    return adapter, [Part(base.get_submodule(name), *pair) for name, pair in adapter.layers.items()]  # type: ignore[arg-type]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("x_is_trained_on", [True, False])
def test_outputs_and_all_gradients_are_those_of_the_separate_layers(merged: bool, x_is_trained_on: bool) -> None:
    base = Two()
    adapter, parts = parts_of(base)
    x = torch.randn(2, 5, 6, requires_grad=x_is_trained_on)
    weights = torch.randn(2, 5, 14)
    with adapter.attached(base):
        wanted = torch.cat([base.a(x), base.b(x)], -1)
        (wanted * weights).sum().backward()
    assert adapter.weights.grad is not None
    wanted_gradient, wanted_x = adapter.weights.grad.clone(), x.grad
    adapter.weights.grad.zero_()
    x.grad = None
    joined = AdaptedProduct(parts, adapter.weights, SCALE, merged=merged)
    found = joined(x)
    (found * weights).sum().backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(adapter.weights.grad, wanted_gradient)
    assert (x.grad is None) == (not x_is_trained_on)
    if wanted_x is not None:
        torch.testing.assert_close(x.grad, wanted_x)


@pytest.mark.parametrize("merged", [True, False])
def test_a_product_of_an_activation_has_all_gradients_and_keeps_only_what_goes_in(merged: bool) -> None:
    base = Two()
    adapter, parts = parts_of(base)
    left, right = (torch.randn(2, 5, 3, requires_grad=True) for _ in range(2))
    weights = torch.randn(2, 5, 14)

    def make(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.cat([left.tanh(), left * right], -1)

    with adapter.attached(base):
        x = make(left, right)
        wanted = torch.cat([base.a(x), base.b(x)], -1)
        (wanted * weights).sum().backward()
    assert adapter.weights.grad is not None
    wanted_gradients = [adapter.weights.grad.clone(), left.grad, right.grad]
    adapter.weights.grad.zero_()
    left.grad = right.grad = None
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        found = AdaptedProduct(parts, adapter.weights, SCALE, merged=merged).recomputing(make, left, right)
    (found * weights).sum().backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close([adapter.weights.grad, left.grad, right.grad], wanted_gradients)
    assert [tensor.data_ptr() for tensor in kept] == [left.data_ptr(), right.data_ptr()]


def test_a_merged_product_follows_its_factors() -> None:
    base = Two()
    adapter, parts = parts_of(base)
    joined = AdaptedProduct(parts, adapter.weights, SCALE, merged=True)
    x = torch.randn(5, 6)
    before = joined(x)
    adapter.weights.data.zero_()
    torch.testing.assert_close(joined(x), torch.cat([base.a(x), base.b(x)], -1))
    assert not torch.allclose(joined(x), before)


def test_a_slice_of_a_wider_matrix_multiplies_like_any_other() -> None:
    wide = torch.randn(7, 12)
    x = torch.randn(9, 4)
    torch.testing.assert_close(product(x, wide[:, 4:8]), x @ wide[:, 4:8].t())
    torch.testing.assert_close(product(wide[:, 4:8], x), wide[:, 4:8] @ x.t())
