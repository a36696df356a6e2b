"""The rate and the average of a step: what was asked for at the start, and then nothing but the steps done counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tintype.models.registry import family_specs
from tintype.training.plan import Plan
from tintype.training.schedule import learning_rate, newest_share

PLAN = Plan(steps=6, learning_rate=1e-3, warmup_steps=4)


def rates(plan: Plan, count: int) -> list[float]:
    return [learning_rate(plan, step) / plan.learning_rate for step in range(count)]


def test_the_rate_rises_to_what_was_asked_and_stays() -> None:
    assert rates(PLAN, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_half_of_the_rate_is_left_after_decay_steps_and_a_quarter_after_three_times_as_many() -> None:
    falling = rates(replace(PLAN, warmup_steps=1, decay_steps=100), 400)
    assert [falling[step] for step in (0, 100, 300)] == [1.0, 0.5, 0.25]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("decay_steps", [0, 100])
def test_neither_rate_nor_average_knows_how_long_the_run_will_be(decay_steps: int) -> None:
    short, long = (replace(PLAN, steps=steps, decay_steps=decay_steps) for steps in (100, 2500))
    assert rates(short, 100) == rates(long, 100)
    assert [newest_share(short, step) for step in range(100)] == [newest_share(long, step) for step in range(100)]


def test_the_average_is_of_the_latest_tenth_or_so_and_never_of_more_than_is_asked_for() -> None:
    plan = replace(PLAN, ema_decay=0.99)
    assert newest_share(plan, 0) == pytest.approx(0.9)  # what the adapter began with is forgotten soon
    assert newest_share(plan, 90) == pytest.approx(0.09)
    assert newest_share(plan, 10_000) == pytest.approx(0.01)


def test_real_base_models_keep_the_constant_rate_and_weight_decay_their_users_know() -> None:
    for spec in family_specs():
        assert spec.training_defaults.decay_steps == 0
        assert spec.training_defaults.weight_decay == 1e-4
