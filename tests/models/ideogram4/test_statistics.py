"""A stock FLUX.2 autoencoder must not pass for Ideogram's: the pictures would come out, only wrong."""

from __future__ import annotations

from typing import Any

import torch
from tests.support.tiny_ideogram import tiny_autoencoder

from tintype.models.ideogram4.statistics import SCALE, SHIFT, settle_statistics


def deviation(vae: Any) -> torch.Tensor:
    return (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()


def test_other_statistics_are_replaced_and_said() -> None:
    vae = tiny_autoencoder(latent_channels=32)
    assert "known ones are used" in settle_statistics(vae)
    torch.testing.assert_close(vae.bn.running_mean, torch.tensor(SHIFT))
    torch.testing.assert_close(deviation(vae), torch.tensor(SCALE))
    assert settle_statistics(vae) == "", "and then they agree"


def test_the_models_own_statistics_are_kept_to_the_bit() -> None:
    vae = tiny_autoencoder(latent_channels=32)
    settle_statistics(vae)
    own = vae.bn.running_mean.mul_(1.001).clone()
    assert settle_statistics(vae) == ""
    assert torch.equal(vae.bn.running_mean, own)


def test_an_autoencoder_of_another_shape_has_its_own() -> None:
    vae = tiny_autoencoder()
    before = vae.bn.running_var.clone()
    assert settle_statistics(vae) == ""
    assert torch.equal(vae.bn.running_var, before)


def test_the_constants_repeat_with_the_autoencoders_channels() -> None:
    """Each channel has nearly the same numbers at all four places of a patch: a shuffled order would show here."""
    for values in (SHIFT, SCALE):
        by_place = torch.tensor(values).view(4, 32)
        within, between = by_place.std(0).mean(), by_place.mean(0).std()
        assert within < 0.3 * between
