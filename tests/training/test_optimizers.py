"""Optimisers: those that are here work and go on exactly after a restart; those that are not say what is missing."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from tintype.errors import InputError
from tintype.training.optimizers import OPTIMIZERS, from_tensors, new_optimizer, to_tensors, usable

CPU = torch.device("cpu")


def weights() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(40))


def pushed(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        parameter.grad = torch.randn(40, generator=torch.Generator().manual_seed(step))
        optimizer.step()


def test_adamw_is_fused_and_always_there() -> None:
    optimizer = new_optimizer("adamw", weights(), 1e-3, 0.0)
    assert optimizer.defaults["fused"]
    assert "adamw" in usable(CPU)


@pytest.mark.parametrize("name", usable(CPU))
def test_an_optimizer_put_back_goes_on_as_if_it_had_never_stopped(name: str) -> None:
    whole = weights()
    optimizer = new_optimizer(name, whole, 1e-2, 1e-2)
    pushed(whole, optimizer, 3)
    kept = to_tensors(optimizer)
    again = torch.nn.Parameter(whole.detach().clone())
    restored = new_optimizer(name, again, 1e-2, 1e-2)
    from_tensors(restored, {key: tensor.clone() for key, tensor in kept.items()})
    pushed(whole, optimizer, 3, first=3)
    pushed(again, restored, 3, first=3)
    assert torch.equal(whole, again)


def test_an_optimizer_that_never_stepped_can_be_kept_too() -> None:
    optimizer = new_optimizer("adamw", weights(), 1e-2, 0.0)
    fresh = new_optimizer("adamw", weights(), 1e-2, 0.0)
    from_tensors(fresh, to_tensors(optimizer))
    assert not fresh.state


def test_an_unknown_optimizer_is_refused_with_those_that_work() -> None:
    with pytest.raises(InputError, match=r"There is no optimizer 'sgdd'.*adamw"):
        new_optimizer("sgdd", weights(), 1e-3, 0.0)


def test_a_package_that_is_not_here_is_named() -> None:
    missing = [name for name, choice in OPTIMIZERS.items() if choice.package and not find_spec(choice.package)]
    for name in missing:
        with pytest.raises(InputError, match=rf"needs the package {OPTIMIZERS[name].package}.*pip install"):
            new_optimizer(name, weights(), 1e-3, 0.0)
    assert {*missing, *usable(torch.device("cuda"))} == set(OPTIMIZERS)
