"""A checkpoint puts everything back, or touches nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from tintype.training.checkpoint import TrainingState, copy_state, restore


def stepped(seed: int) -> tuple[torch.nn.Parameter, torch.optim.Optimizer, TrainingState]:
    """Weights a few optimiser steps away from their start."""
    weights = torch.nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(seed)))
    optimizer = torch.optim.AdamW([weights], lr=0.1, fused=True)
    for _ in range(3):
        weights.grad = torch.randn(50)
        optimizer.step()
    losses = [1.0, float("nan"), 0.5]
    return weights, optimizer, TrainingState(weights.data, weights.detach() * 0.5, step=3, skipped=1, losses=losses)


def test_the_next_step_is_the_same_as_without_the_interruption(tmp_path: Path) -> None:
    weights, optimizer, state = stepped(0)
    copy_state("mine", state, optimizer, tmp_path / "none").write(tmp_path)
    other = torch.nn.Parameter(torch.zeros(50))
    again, fresh = torch.optim.AdamW([other], lr=0.1, fused=True), TrainingState.new(other.data)
    assert restore(tmp_path, "mine", fresh, again, tmp_path / "kept")
    assert (fresh.step, fresh.skipped, len(fresh.losses)) == (3, 1, 3)
    assert torch.equal(fresh.average, state.average)
    gradient = torch.randn(50)
    for parameter, stepper in ((weights, optimizer), (other, again)):
        parameter.grad = gradient.clone()
        stepper.step()
    assert torch.equal(weights, other)


def test_a_strangers_checkpoint_changes_nothing(tmp_path: Path) -> None:
    _, optimizer, state = stepped(0)
    copy_state("mine", state, optimizer, tmp_path / "none").write(tmp_path)
    other, again, fresh = stepped(1)
    before = other.detach().clone()
    assert not restore(tmp_path, "another", fresh, again, tmp_path / "kept")
    assert torch.equal(other, before)
    assert fresh.step == 3


def test_a_run_whose_every_step_was_skipped_can_be_kept_too(tmp_path: Path) -> None:
    weights = torch.nn.Parameter(torch.ones(5))
    optimizer = torch.optim.AdamW([weights], lr=0.1, fused=True)
    state = TrainingState.new(weights.data)
    copy_state("mine", state, optimizer, tmp_path / "none").write(tmp_path)
    assert restore(tmp_path, "mine", state, optimizer, tmp_path / "kept")
