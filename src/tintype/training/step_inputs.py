"""What a step reads, on the device that computes: noisy images, what they were made of, and their captions.

Every random choice is a function of seed and step, so that a step can be taken again after a crash and gives the very
same bits. All of it is made on the CPU, whatever the device, and none of it waits for the device, so that the next
step's is ready while this one is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from tintype.devices import free_bytes
from tintype.models.family import Family, Features, Latents
from tintype.training.batches import Batches
from tintype.training.cache import Cache
from tintype.training.plan import Plan

_TEXT_SHARE = 0.02  # of a device's free memory, for the features of all captions; else each step fetches its own


@dataclass(frozen=True)
class StepInput:
    """Of one step. target: noise - clean, (batch, tokens, channels). sigma: (batch,), on the CPU. weights: (batch,
    tokens), where an image has a mask."""

    step: int
    noisy: Latents
    target: torch.Tensor
    sigma: torch.Tensor
    features: Features
    weights: torch.Tensor | None

    @property
    def tokens(self) -> int:
        """Counts those of text and image of one image, padding included."""
        return self.features.tokens.shape[1] + self.target.shape[1]


class StepInputs:
    """Makes the inputs of any step of a run."""

    def __init__(self, family: Family, cache: Cache, plan: Plan) -> None:
        self._family, self._plan = family, plan
        self._cache = replace(cache, features=placed(cache.features, family, free_bytes(family.device)))
        self._batches = Batches(cache.items, plan.batch_size, plan.seed)

    def at(self, step: int) -> StepInput:
        """Makes those of a step, counted from 0."""
        family, items = self._family, self._batches.at(step)
        generator = torch.Generator().manual_seed(seed_of(self._plan.seed, step))
        clean = torch.stack([item.latents for item in items])
        noise = torch.randn(clean.shape, generator=generator)
        rows, columns = items[0].shape
        sigma = family.sample_sigmas(len(items), rows, columns, generator)
        weights = None
        if any(item.weights is not None for item in items):
            flat = torch.ones(clean.shape[1])
            stacked = torch.stack([flat if item.weights is None else item.weights for item in items])
            weights = moved(stacked, family.device)
        features = self._cache.features_of(items)
        return StepInput(
            step,
            Latents(moved(torch.lerp(clean, noise, sigma[:, None, None]), family.device), rows, columns),
            moved(noise - clean, family.device),
            sigma,
            Features(moved(features.tokens, family.device), features.pooled),
            weights,
        )


def placed(features: Features, family: Family, free: int) -> Features:
    """Puts captions' tokens on a device with so many bytes free, in the family's precision; as they are on a CPU."""
    if family.device.type == "cpu":
        return features
    tokens = features.tokens.to(family.dtype)
    return Features(tokens.to(family.device) if tokens.nbytes <= _TEXT_SHARE * free else tokens, features.pooled)


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Puts a tensor on a device; a GPU fetches it from pinned memory when it comes to it."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def seed_of(seed: int, step: int) -> int:
    """Makes a seed for one step; neighbours share nothing (splitmix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
