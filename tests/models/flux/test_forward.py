"""Our order of work gives diffusers' numbers, and PEFT's gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from bench.weightless import NARROW, REAL, WeightlessFlux
from peft import LoraConfig

from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.models.blocks import recomputing
from tintype.models.family import Features, Forward, Latents
from tintype.models.flux.forward import FluxForward
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings

ROWS, COLUMNS = 3, 5


@pytest.fixture(scope="module")
def flux() -> FluxFamily:
    return ResidentModels(load_settings(flux_base="miniature"), "cpu").family(FluxFamily)


def adapter_for(flux: FluxFamily, rank: int = 4) -> Adapter:
    """One that changes something, so that all of its gradients do."""
    adapter = Adapter.for_transformer(
        flux.load_transformer(), flux.adapter_targets, rank=rank, seed=0, device=flux.device
    )
    adapter.weights.data.add_(torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1)) * 0.03)
    adapter.require_gradients()
    return adapter


def inputs(flux: FluxFamily, text: int = 7, batch: int = 2) -> tuple[Latents, torch.Tensor, Features]:
    config, generator = flux.load_transformer().config, torch.Generator().manual_seed(2)
    tokens = torch.randn(batch, ROWS * COLUMNS, config.in_channels, generator=generator)
    features = Features(
        torch.randn(batch, text, config.joint_attention_dim, generator=generator),
        torch.randn(batch, config.pooled_projection_dim, generator=generator),
    )
    return Latents(tokens, ROWS, COLUMNS), torch.rand(batch, generator=generator), features


def gradient_of(
    flux: FluxFamily, adapter: Adapter, forward: Forward = Forward.OWN, recomputed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(prediction, flat gradient) of one order of work."""
    assert adapter.weights.grad is not None
    adapter.weights.grad.zero_()
    with flux.adapted(adapter, forward, recomputed=recomputed) as transformer:
        predicted = flux.predict_velocity(transformer, *inputs(flux), 1.5)
        predicted.float().square().mean().backward()
    return predicted.detach(), adapter.weights.grad.clone()


def test_prediction_and_gradients_are_those_of_diffusers_with_peft(flux: FluxFamily) -> None:
    adapter = adapter_for(flux)
    predicted, gradient = gradient_of(flux, adapter)
    theirs = copy.deepcopy(flux.load_transformer())
    theirs.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(flux.adapter_targets)))
    for name, (down, up) in adapter.layers.items():
        layer = theirs.get_submodule(name)
        layer.lora_A["default"].weight.data.copy_(down.data)
        layer.lora_B["default"].weight.data.copy_(up.data)
    wanted = flux.predict_velocity(theirs, *inputs(flux), 1.5)
    torch.testing.assert_close(predicted, wanted, rtol=1e-4, atol=1e-5)
    wanted.square().mean().backward()
    largest = gradient.abs().max().item()
    for name, (down, up) in adapter.layers.items():
        layer = theirs.get_submodule(name)
        for ours, weight in ((down.grad, layer.lora_A["default"].weight), (up.grad, layer.lora_B["default"].weight)):
            torch.testing.assert_close(ours, weight.grad, rtol=1e-3, atol=1e-5 * largest)


def test_the_same_step_gives_the_same_bits_every_time(flux: FluxFamily) -> None:
    adapter = adapter_for(flux)
    first, second = gradient_of(flux, adapter), gradient_of(flux, adapter)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("forward", [Forward.OWN, Forward.DIFFUSERS])
def test_recomputing_some_or_all_blocks_changes_no_gradient(flux: FluxFamily, forward: Forward) -> None:
    adapter = adapter_for(flux)
    _, wanted = gradient_of(flux, adapter, forward)
    for recomputed in (3, 100):
        _, gradient = gradient_of(flux, adapter, forward, recomputed=recomputed)
        assert torch.equal(gradient, wanted)


def test_a_bf16_base_keeps_its_side_path_beside_it() -> None:
    """Folded into bf16 weights, small factors would vanish: here they are far below a weight's last bit."""
    narrow = WeightlessFlux(NARROW, torch.device("cpu"))
    adapter = adapter_for(narrow)
    adapter.weights.data.mul_(0.02)
    (ours, gradient), (theirs, wanted) = gradient_of(narrow, adapter), gradient_of(narrow, adapter, Forward.DIFFUSERS)
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * theirs.abs().max().item())
    assert torch.nn.functional.cosine_similarity(gradient, wanted, dim=0) > 0.98
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).all()


def test_rotary_tables_are_fp32_and_diffusers_own() -> None:
    narrow = WeightlessFlux(NARROW, torch.device("cpu"))
    form = FluxForward(narrow.load_transformer(), adapter_for(narrow))
    table = form._rotary_table(2, ROWS, COLUMNS, torch.device("cpu"))
    assert table.dtype == torch.complex64
    ids = torch.tensor([(0, 0, 0)] * 2 + [(0, row, column) for row in range(ROWS) for column in range(COLUMNS)])
    cos, sin = narrow.load_transformer().pos_embed(ids)
    torch.testing.assert_close(torch.view_as_real(table), torch.stack([cos[:, ::2], sin[:, ::2]], -1))


def test_after_recomputing_the_transformer_is_as_it_was(flux: FluxFamily) -> None:
    transformer = flux.load_transformer()
    with recomputing(transformer, transformer.transformer_blocks[:2]):
        assert transformer.gradient_checkpointing
    assert not transformer.gradient_checkpointing


@pytest.mark.long
def test_one_block_of_each_kind_at_the_real_width_steps_in_bf16_with_finite_gradients() -> None:
    real = WeightlessFlux(REAL | {"num_layers": 1, "num_single_layers": 1}, torch.device("cpu"))
    adapter = adapter_for(real, rank=16)
    predicted, gradient = gradient_of(real, adapter)
    assert predicted.shape == (2, ROWS * COLUMNS, 64)
    assert torch.isfinite(gradient).all()
    assert adapter.weights.dtype == gradient.dtype == torch.float32
    for name, (down, up) in adapter.layers.items():
        for part in (down, up):
            assert part.grad is not None
            assert part.grad.abs().sum() > 0, name
