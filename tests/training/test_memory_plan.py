"""The prediction against what autograd really keeps, and what is decided from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench.weightless import REAL, WeightlessFlux, WeightlessIdeogram4
from diffusers import Ideogram4Transformer2DModel

from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.models.family import Family, Features, Forward, Latents
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings
from tintype.training.memory_plan import Shape, plan_memory

GIB = 2**30


def kept_by(family: Family, *, text: int, side: int, batch: int, forward: Forward = Forward.OWN) -> tuple[int, Shape]:
    """(bytes that a forward pass keeps for the backward, the shape to predict them from).

    On the meta device attention is spelled out; its scores, which no real kernel keeps, do not count.
    """
    transformer, device = family.load_transformer(), family.device
    adapter = Adapter.for_transformer(transformer, family.adapter_targets, rank=16, seed=0, device=device)
    adapter.require_gradients()
    tokens = torch.randn(batch, side * side, transformer.config.in_channels).to(device, family.dtype)
    features = features_for(transformer, text, batch)
    frozen = {parameter.untyped_storage()._cdata for parameter in (*transformer.parameters(), adapter.weights)}
    storages: dict[int, tuple[torch.UntypedStorage, int]] = {}
    whole = text + side * side

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        spelled_out = device.type == "meta" and tensor.dim() >= 2 and tensor.shape[-1] == whole
        if storage._cdata not in frozen and not spelled_out:
            storages[storage._cdata] = (storage, storage.nbytes())
        return tensor

    with family.adapted(adapter, forward) as network:
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks:
            family.predict_velocity(network, Latents(tokens, side, side), torch.rand(batch), features, 1.0)
    kept = family.kept_values(forward)
    shape = Shape.of(transformer, kept, tokens=whole, batch=batch, trained=adapter.weights.numel())
    return sum(size for _, size in storages.values()), shape


def features_for(transformer: Any, text: int, batch: int) -> Features:
    config = transformer.config
    if isinstance(transformer, Ideogram4Transformer2DModel):
        return Features(torch.randn(batch, text, transformer.hidden_size), torch.full((batch, 1), float(text)))
    tokens = torch.randn(batch, text, config.joint_attention_dim)
    return Features(tokens, torch.randn(batch, config.pooled_projection_dim))


@pytest.mark.parametrize("forward", [Forward.OWN, Forward.DIFFUSERS])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_the_prediction_holds_on_the_miniature(base: str, forward: Forward) -> None:
    models = ResidentModels(load_settings(flux_base="miniature", ideogram4_base="miniature"), "cpu")
    family: Family = models.family(FluxFamily) if base == "flux" else models.family(Ideogram4Family)
    kept, shape = kept_by(family, text=48, side=8, batch=4, forward=forward)
    assert shape.kept_bytes() == pytest.approx(kept, rel=0.15)


def test_the_prediction_holds_at_the_real_configuration() -> None:
    real = WeightlessFlux(REAL, torch.device("meta"))
    kept, shape = kept_by(real, text=512, side=64, batch=1)
    assert shape.kept_bytes() == pytest.approx(kept, rel=0.15)
    assert 40 * GIB < shape.total_bytes() < 50 * GIB
    assert 23 * GIB < shape.total_bytes(shape.blocks) < 30 * GIB


def test_the_prediction_holds_at_the_real_configuration_of_ideogram() -> None:
    kept, shape = kept_by(WeightlessIdeogram4(torch.device("meta")), text=256, side=64, batch=1)
    assert shape.kept_bytes() == pytest.approx(kept, rel=0.15)


def real_shape() -> Shape:
    family = WeightlessFlux(REAL, torch.device("meta"))
    return Shape.of(
        family.load_transformer(), family.kept_values(Forward.OWN), tokens=4608, batch=1, trained=44_000_000
    )


def test_no_more_is_recomputed_than_has_to_be() -> None:
    shape = real_shape()
    assert plan_memory(shape, 139 * GIB).recomputed == 0
    some = plan_memory(shape, 48 * GIB)
    assert 0 < some.recomputed < shape.blocks
    assert shape.total_bytes(some.recomputed) <= 0.92 * 48 * GIB < shape.total_bytes(some.recomputed - 1)
    assert f"{some.recomputed} of 57 blocks are recomputed" in some.summary


def test_what_cannot_fit_says_what_would_help() -> None:
    plan = plan_memory(real_shape(), 16 * GIB)
    assert plan.recomputed == 57
    assert "all blocks are recomputed" in plan.summary
    assert "quantised" in plan.summary


def test_stepping_down_ends_with_every_block() -> None:
    plan = plan_memory(real_shape(), 139 * GIB)
    half = plan.stepped_down()
    assert half.recomputed == 28
    whole = half.stepped_down()
    assert whole.recomputed == 57
    assert not whole.can_step_down
