"""The distribution of noise levels."""

from __future__ import annotations

import torch

from tintype.models.sigmas import logit_normal, shifted


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logits_are_normal_with_the_mean_and_deviation_asked_for() -> None:
    logits = torch.logit(logit_normal(20_000, 0.3, 1.5, generator()).double())
    assert abs(logits.mean() - 0.3) < 0.02
    assert abs(logits.std() - 1.5) < 0.02


def test_a_batch_covers_every_part_of_the_distribution() -> None:
    for seed in range(20):
        ranks = torch.special.ndtr(torch.logit(logit_normal(4, 0.0, 1.0, generator(seed)).double()))
        assert (ranks * 4).floor().int().tolist() == [0, 1, 2, 3]


def test_a_single_sigma_is_drawn_from_the_whole_distribution() -> None:
    drawn = torch.cat([logit_normal(1, 0.0, 1.0, generator(seed)) for seed in range(800)])
    assert abs(drawn.mean() - 0.5) < 0.03
    assert drawn.min() < 0.1
    assert drawn.max() > 0.9


def test_a_shift_moves_towards_noise_and_keeps_the_ends() -> None:
    sigmas = torch.linspace(0.01, 0.99, 20)
    assert (shifted(sigmas, 1.15) > sigmas).all()
    torch.testing.assert_close(shifted(sigmas, 0.0), sigmas)
    torch.testing.assert_close(shifted(torch.tensor([1.0]), 1.15), torch.tensor([1.0]))
