"""Whether a picture follows its prompt, asked of the base model itself: it is what knows the words.

A diffusion model is a classifier (Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier"): it
restores a noisy picture best when it is told what the picture shows. By how much a picture's own prompt beats the other
prompts, compared with how it does so for the base's own picture of that prompt, is the score. A face that the base does
not know costs the same under all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tintype.models.family import Family, Latents

_SIGMAS = (0.85, 0.95)  # where words decide: below, what is left of the picture tells more than they do
_SEED = 0
_MOST = 1.0


@torch.no_grad()
def preference(family: Family, latents: Latents, prompts: Sequence[str], guidance: float) -> torch.Tensor:
    """Measures how much better each picture's own prompt explains it than the others do on average, (pictures,).

    Picture k was drawn from prompt k; there are two or more. The transformer has to be bare. An explanation is as good
    as the mean square of predicted minus true velocity is small.
    """
    transformer, clean = family.load_transformer(), latents.tokens.to(family.device)
    count = len(prompts)
    told = family.encode_captions(prompts)
    generator = torch.Generator().manual_seed(_SEED)
    errors = torch.zeros(count, count)  # (pictures, prompts)
    for sigma in _SIGMAS:
        noise = torch.randn(clean.shape[1:], generator=generator).to(family.device).expand_as(clean)
        noisy = torch.lerp(clean, noise, sigma)
        for picture in range(count):
            repeated = Latents(noisy[picture].expand(count, -1, -1), latents.rows, latents.columns)
            levels = torch.full((count,), sigma)
            predicted = family.predict_velocity(transformer, repeated, levels, told, guidance)
            wanted = (noise - clean)[picture]
            errors[picture] += (predicted.float() - wanted).square().mean(dim=(1, 2)).cpu()
    own = errors.diagonal()
    others = (errors.sum(dim=1) - own) / (count - 1)
    return (others - own) / len(_SIGMAS)


def adherence(preferences: torch.Tensor, of_base: torch.Tensor) -> torch.Tensor:
    """Scores pictures, (pictures,): 1 where the words explain one as well as the base's own picture of the same prompt.

    NaN where they do not explain even that.
    """
    score = (preferences / of_base).clamp(0.0, _MOST)
    return torch.where(of_base > 0, score, torch.nan)
