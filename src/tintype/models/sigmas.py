"""At which noise levels the network is trained: few numbers that decide much of a LoRA's quality."""

from __future__ import annotations

import torch


def logit_normal(count: int, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    """Draws (count,) sigmas whose logit is normal (Esser et al. 2024, arXiv 2403.03206, §3.1).

    Stratified: each falls into another 1/count of the distribution, so that a batch covers all noise levels and
    the gradient's variance is lower. For one it is plain chance.
    """
    uniform = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    normal = torch.special.ndtri(uniform.clamp(1e-7, 1 - 1e-7))
    return torch.sigmoid(mean + std * normal).float()


def shifted(sigmas: torch.Tensor, mu: float) -> torch.Tensor:
    """Shifts towards noise as the scheduler does: e^mu / (e^mu + 1/sigma - 1), mu growing with the image's tokens."""
    factor = torch.tensor(mu).exp()
    return factor / (factor + 1 / sigmas - 1)
