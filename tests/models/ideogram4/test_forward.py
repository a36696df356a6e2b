"""Our order of work gives the numbers and gradients of diffusers' blocks, whatever is padded or recomputed."""

from __future__ import annotations

import pytest
import torch

from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.models.family import Features, Forward, Latents
from tintype.models.ideogram4.forward import IdeogramForward
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings

ROWS, COLUMNS = 3, 5


@pytest.fixture(scope="module")
def family() -> Ideogram4Family:
    return ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").family(Ideogram4Family)


@pytest.fixture(scope="module")
def adapter(family: Ideogram4Family) -> Adapter:
    """One that changes something, so that all of its gradients do."""
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=4, seed=0, device=family.device, shared=family.fused_targets
    )
    adapter.weights.data.add_(torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1)) * 0.03)
    adapter.require_gradients()
    return adapter


def gradient_of(
    family: Ideogram4Family,
    adapter: Adapter,
    lengths: tuple[int, int] = (9, 9),
    forward: Forward = Forward.OWN,
    **how: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(prediction, flat gradient) of one order of work."""
    assert adapter.weights.grad is not None
    adapter.weights.grad.zero_()
    config, generator = family.load_transformer().config, torch.Generator().manual_seed(2)
    noisy = Latents(torch.randn(2, ROWS * COLUMNS, config.in_channels, generator=generator), ROWS, COLUMNS)
    width = config.num_attention_heads * config.attention_head_dim
    features = Features(torch.randn(2, 9, width, generator=generator), torch.tensor([[float(n)] for n in lengths]))
    sigma = torch.rand(2, generator=generator)
    with family.adapted(adapter, forward, **how) as transformer:  # type: ignore[arg-type]
        predicted = family.predict_velocity(transformer, noisy, sigma, features, 1.0)
        predicted.float().square().mean().backward()
    return predicted.detach(), adapter.weights.grad.clone()


@pytest.mark.parametrize("lengths", [(9, 9), (9, 4)], ids=["captions alike", "captions of two lengths"])
def test_prediction_and_gradients_are_those_of_diffusers_blocks(
    family: Ideogram4Family, adapter: Adapter, lengths: tuple[int, int]
) -> None:
    predicted, gradient = gradient_of(family, adapter, lengths)
    theirs, wanted = gradient_of(family, adapter, lengths, Forward.DIFFUSERS)
    torch.testing.assert_close(predicted, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max().item())
    assert gradient.count_nonzero() > 0.9 * gradient.numel()


@pytest.mark.parametrize("recomputed", [1, 7])
def test_recomputing_changes_no_bit(family: Ideogram4Family, adapter: Adapter, recomputed: int) -> None:
    first, second = gradient_of(family, adapter), gradient_of(family, adapter, recomputed=recomputed)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_rounded_products_stay_near(family: Ideogram4Family, adapter: Adapter) -> None:
    exact, _ = gradient_of(family, adapter)
    rounded, _ = gradient_of(family, adapter, rounded=True)
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()


def test_the_network_is_bare_again_afterwards(family: Ideogram4Family, adapter: Adapter) -> None:
    before = [name for name, _ in family.load_transformer().named_modules()]
    with family.adapted(adapter) as form:
        assert isinstance(form, IdeogramForward)
    with family.adapted(adapter, Forward.DIFFUSERS, recomputed=2):
        pass
    assert [name for name, _ in family.load_transformer().named_modules()] == before
    assert not family.load_transformer().gradient_checkpointing
