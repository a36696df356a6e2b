"""Loads the written file back, the way a stranger would, before anyone is told that it works.

The most frequent complaint about other trainers is a file that loads and does nothing. Here diffusers' own loader reads
it into a fresh pipeline around the transformer, all that it needs: every key must arrive, at scale 0 the base must be
untouched, and at scale 1 the prediction must change, and change to what was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from tintype.errors import UnprovenAdapter
from tintype.lora.adapter import attached
from tintype.lora.keys import PREFIX
from tintype.lora.lora import Lora
from tintype.models.family import Family, Latents
from tintype.training.cache import Cache

_NAME = "proof"
_SIGMA = 0.7
# The loaded file against the adapter that was trained: the file may hold half precision.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Proof:
    """The findings. `change` is the LoRA's effect on the prediction, as a share of the prediction's size."""

    keys: int
    change: float
    error: float


def prove(family: Family, path: Path, lora: Lora, cache: Cache) -> Proof:
    """Raises UnprovenAdapter when the file does not load completely or does not do what this LoRA does."""
    transformer = family.load_transformer()
    velocity = _probe(family, cache)
    base = velocity(transformer)
    with attached(transformer, {name: pair.to(family.device) for name, pair in lora.pairs.items()}):
        wanted = velocity(transformer)
    pipeline = family.bare_pipeline()
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=_NAME, local_files_only=True)
        keys = _compare_keys(path, transformer)
        pipeline.set_adapters([_NAME], [0.0])
        silent = velocity(transformer)
        pipeline.set_adapters([_NAME], [1.0])
        loaded = velocity(transformer)
    finally:
        pipeline.unload_lora_weights()
    size = base.norm().item()
    change, error = (loaded - base).norm().item(), (loaded - wanted).norm().item()
    if not torch.equal(silent, base):
        raise UnprovenAdapter("The exported LoRA changes the picture even at scale 0.")
    if change == 0 or not torch.isfinite(loaded).all():
        raise UnprovenAdapter(
            "The exported LoRA does not change the picture.", remedy="Train longer or with a higher learning_rate."
        )
    if error > _TOLERANCE * change + 1e-5 * size:
        raise UnprovenAdapter("The exported LoRA, loaded back, does something else than what was trained.")
    return Proof(keys, change / size, error / size)


def _compare_keys(path: Path, transformer: torch.nn.Module) -> int:
    """How many tensors arrived in the model; all of them, and no others, with the file's values."""
    written = load_file(path)
    arrived = {
        f"{PREFIX}{name.replace(f'.{_NAME}.', '.')}": parameter.detach()
        for name, parameter in transformer.named_parameters()
        if f".{_NAME}." in name
    }
    if missing := set(written) - set(arrived):
        raise UnprovenAdapter(f"{len(missing)} tensors of the exported LoRA did not load ({min(missing)}, …).")
    if unexpected := set(arrived) - set(written):
        raise UnprovenAdapter(f"The exported LoRA lacks {len(unexpected)} tensors ({min(unexpected)}, …).")
    for name, tensor in written.items():
        if not torch.allclose(arrived[name].float().cpu(), tensor.float()):
            raise UnprovenAdapter(f"{name} has another value after loading.")
    return len(written)


def _probe(family: Family, cache: Cache) -> Callable[[torch.nn.Module], torch.Tensor]:
    """One fixed question to a network: the first picture of the training, partly noise."""
    item = cache.items[0]
    noise = torch.randn(item.latents.shape, generator=torch.Generator().manual_seed(0))
    noisy = Latents(torch.lerp(item.latents, noise, _SIGMA)[None].to(family.device), item.rows, item.columns)
    features = cache.features_of([item])

    @torch.no_grad()
    def velocity(transformer: torch.nn.Module) -> torch.Tensor:
        sigma = torch.full((1,), _SIGMA)
        return family.predict_velocity(transformer, noisy, sigma, features, 1.0).float().cpu()

    return velocity
