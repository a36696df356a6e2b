"""A step on the miniature: what it decides by itself, and what it does when memory runs out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bench.weightless import NARROW, WeightlessFlux

from tintype.errors import OutOfMemory
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.models.family import Features, Forward, Latents
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState
from tintype.training.memory_plan import PeakMeter, Shape
from tintype.training.plan import Plan
from tintype.training.step import Stepper
from tintype.training.step_inputs import StepInput, placed, seed_of

PLAN = Plan(steps=4, learning_rate=1e-3, batch_size=2, warmup_steps=4)


class Cramped(FluxFamily):
    """The miniature on a device that holds nothing but recomputed blocks: more than `room` raises, as torch does."""

    room = 100

    def predict_velocity(
        self, transformer: object, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float
    ) -> torch.Tensor:
        if getattr(transformer, "recomputed", 0) < self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().predict_velocity(transformer, noisy, sigma, features, guidance)


@pytest.fixture(scope="module")
def flux() -> FluxFamily:
    return ResidentModels(load_settings(flux_base="miniature"), "cpu").family(FluxFamily)


def cache_for(flux: FluxFamily) -> Cache:
    generator = torch.Generator().manual_seed(0)
    items = [Item(str(n), torch.randn(12, 32, generator=generator), 3, 4, 0, None) for n in range(3)]
    return Cache(items, ["TOK"], flux.encode_captions(["TOK"]), "some")


def stepper_for(flux: FluxFamily, plan: Plan = PLAN, said: list[str] | None = None) -> tuple[Stepper, TrainingState]:
    adapter = Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=2, seed=0, device=flux.device)
    log = (lambda line: None) if said is None else said.append
    return Stepper(flux, adapter, cache_for(flux), plan, log=log), TrainingState.new(adapter.weights.data)


def test_the_memory_plan_is_said_before_the_first_step(flux: FluxFamily) -> None:
    said: list[str] = []
    stepper, state = stepper_for(flux, said=said)
    with stepper.prepared():
        assert stepper.take(state).taken
    assert said[0].startswith("Memory: ")
    assert "nothing is recomputed" in said[0]


def test_running_out_of_memory_steps_down_and_takes_the_same_step(flux: FluxFamily) -> None:
    said: list[str] = []
    cramped = Cramped(flux.weights, flux.device)
    cramped.room = 7  # all blocks of the miniature
    stepper, state = stepper_for(cramped, said=said)
    roomy, other = stepper_for(flux)
    with stepper.prepared(), roomy.prepared():
        assert torch.equal(stepper.take(state).figures, roomy.take(other).figures)
    assert torch.equal(stepper.adapter.weights, roomy.adapter.weights)
    assert [line for line in said if line.startswith("Out of memory")] == [
        "Out of memory; from here on 3 of 7 blocks are recomputed.",
        "Out of memory; from here on all blocks are recomputed.",
    ]


class Meter(PeakMeter):
    """Tells of a step that took so much, as a GPU would."""

    def __init__(self, taken: int) -> None:
        super().__init__(torch.device("cpu"))
        self._taken = taken

    def begin(self) -> None:
        pass

    def taken(self) -> int:
        return self._taken


@pytest.mark.parametrize(
    ("factor", "recomputed", "said_of_it"), [(0.5, 0, "nothing is"), (1.0, 3, ""), (3.0, 7, "all blocks are")]
)
def test_the_plan_is_corrected_by_what_the_first_step_took(
    flux: FluxFamily, monkeypatch: pytest.MonkeyPatch, factor: float, recomputed: int, said_of_it: str
) -> None:
    cache, said = cache_for(flux), list[str]()
    adapter = Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=2, seed=0, device=flux.device)
    shape = Shape.of(
        flux.load_transformer(),
        flux.kept_values(Forward.OWN),
        tokens=12 + cache.features.tokens.shape[1],
        batch=PLAN.batch_size,
        trained=adapter.weights.numel(),
    )
    free = int(shape.total_bytes(3) / 0.92) + 1024 - shape.weights
    monkeypatch.setattr("tintype.training.step.free_bytes", lambda device: free)
    inputs = 3 * shape.stream_bytes
    meter = Meter(int(inputs + factor * (shape.kept_bytes(3) - inputs)))
    stepper = Stepper(flux, adapter, cache, PLAN, meter=meter, log=said.append)
    state, (plain, other) = TrainingState.new(adapter.weights.data), stepper_for(flux)
    with stepper.prepared(), plain.prepared():
        assert stepper.memory.recomputed == 3
        for _ in range(3):
            assert torch.equal(stepper.take(state).figures, plain.take(other).figures)
            state.step, other.step = state.step + 1, other.step + 1
        assert stepper.memory.recomputed == recomputed
    assert torch.equal(adapter.weights, plain.adapter.weights)
    assert [f"{said_of_it} recomputed" in line for line in said[1:]] == ([True] if said_of_it else [])


def test_a_measurement_counts_inputs_of_recomputed_blocks_apart() -> None:
    shape = Shape(width=10, kept=(12.0, 12.0, 8.0), tokens=5, batch=2, bytes_per_value=2, weights=0, trained=0)
    assert shape.stream_bytes == 200
    assert shape.kept_bytes(2) == (8 + 12 + 2) * 200
    half = 10 * 200 + 2 * 200
    assert shape.measured_against(half, 2) == 0.5
    assert shape.scaled(0.5).kept_bytes(2) == half
    assert shape.measured_against(10**9, 0) == 4.0


def test_a_bad_step_is_skipped_without_being_looked_at(flux: FluxFamily) -> None:
    stepper, state = stepper_for(flux)
    with stepper.prepared():
        stepper.take(state)
        state.step += 1
        moments = stepper.optimizer.state[stepper.adapter.weights]
        before = [part.clone() for part in (stepper.adapter.weights.data, state.average, *moments.values())]
        spoilt = stepper.inputs.at(1)
        stepper.inputs.at = lambda step: replace(spoilt, target=spoilt.target * torch.inf)  # type: ignore[method-assign]
        stepper._ahead = None
        outcome = stepper.take(state)
    assert all(map(torch.equal, before, (stepper.adapter.weights.data, state.average, *moments.values())))
    assert not outcome.taken


def test_the_next_step_is_prepared_before_anyone_asks_how_this_one_came_out(flux: FluxFamily) -> None:
    stepper, state = stepper_for(flux)
    made, at = [], stepper.inputs.at

    def counted(step: int) -> StepInput:
        made.append(step)
        return at(step)

    stepper.inputs.at = counted  # type: ignore[method-assign]
    with stepper.prepared():
        for wanted in ([0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]):
            outcome = stepper.take(state)
            assert made == wanted
            assert outcome.taken
            state.step += 1


def test_captions_stay_on_a_device_that_has_room_for_them_and_on_a_cpu_as_they_are(flux: FluxFamily) -> None:
    features = Features(torch.randn(3, 4, 8), torch.randn(3, 2))
    assert placed(features, flux, 0) is features
    elsewhere = WeightlessFlux(NARROW, torch.device("meta"))
    size = features.tokens.nbytes // 2  # in bf16
    assert placed(features, elsewhere, 50 * size).tokens.device.type == "meta"
    near = placed(features, elsewhere, 50 * size - 50).tokens
    assert near.device.type == "cpu"
    assert torch.equal(near, features.tokens.bfloat16())


def test_what_does_not_fit_at_all_ends_with_a_remedy(flux: FluxFamily) -> None:
    stepper, state = stepper_for(Cramped(flux.weights, flux.device))
    with stepper.prepared(), pytest.raises(OutOfMemory, match="lower rank"):
        stepper.take(state)


def test_bf16_products_on_a_cpu_move_the_adapter_much_as_fp32_does(flux: FluxFamily) -> None:
    moved = []
    for autocast in (False, True):
        stepper, state = stepper_for(flux, replace(PLAN, autocast=autocast))
        with stepper.prepared():
            loss = stepper.differentiate(state.step)
        assert torch.isfinite(loss)
        assert stepper.adapter.weights.grad is not None
        moved.append(stepper.adapter.weights.grad.clone())
    assert torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > 0.99
    assert not torch.equal(moved[0], moved[1])


def test_seeds_of_neighbouring_steps_share_nothing() -> None:
    seeds = {seed_of(seed, step) for seed in range(20) for step in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
