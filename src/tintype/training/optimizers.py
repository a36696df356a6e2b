"""What moves the adapter. One flat buffer is the only parameter, so each optimiser is a single fused operation.

Others than torch's own are taken when their package is here, and named with the way to get it when not.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from tintype.errors import InputError

_BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Choice:
    """One optimiser: the module that has it, its name there, and what it takes besides."""

    module: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_gpu: bool = False

    @property
    def package(self) -> str:
        """What has to be installed."""
        return self.module.partition(".")[0]


OPTIMIZERS = {
    "adamw": Choice("torch.optim", "AdamW", {"fused": True}),
    "adamw8bit": Choice("bitsandbytes.optim", "AdamW8bit", needs_gpu=True),
    "prodigy": Choice("prodigyopt", "Prodigy"),
}


def new_optimizer(name: str, weights: nn.Parameter, rate: float, decay: float) -> torch.optim.Optimizer:
    """Makes an optimiser of the one flat buffer. Raises InputError as `check_usable` does."""
    check_usable(name, weights.device)
    choice = OPTIMIZERS[name]
    kind = getattr(importlib.import_module(choice.module), choice.name)
    made: torch.optim.Optimizer = kind([weights], lr=rate, betas=_BETAS, weight_decay=decay, **choice.options)
    return made


def check_usable(name: str, device: torch.device) -> None:
    """Raises InputError for a name that is unknown, or whose package or device is not here."""
    if name not in OPTIMIZERS:
        raise InputError(f"There is no optimizer {name!r}.", remedy=f"Choose one of {', '.join(usable(device))}.")
    choice = OPTIMIZERS[name]
    if find_spec(choice.package) is None:
        raise InputError(
            f"The optimizer {name} needs the package {choice.package}, which is not installed.",
            remedy=f"Install it (pip install {choice.package}), or choose one of {', '.join(usable(device))}.",
        )
    if choice.needs_gpu and device.type != "cuda":
        raise InputError(f"The optimizer {name} works on a GPU only.", remedy="On a CPU, choose adamw.")


def usable(device: torch.device) -> list[str]:
    """Names the optimizers that would work here."""
    there = {name: choice for name, choice in OPTIMIZERS.items() if find_spec(choice.package)}
    return [name for name, choice in there.items() if device.type == "cuda" or not choice.needs_gpu]


def to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Gives all that the optimiser knows, numbers included, as tensors, its own where it has them.

    Before its first step these are numbers only. Prodigy keeps its distance estimate beside the learning rate, so that
    numbers of the group are kept too.
    """
    kept = optimizer.state_dict()
    found = {f"group.{name}": _number(value) for name, value in kept["param_groups"][0].items() if _is_number(value)}
    for name, value in kept["state"].get(0, {}).items():
        if isinstance(value, torch.Tensor):
            found[f"state.{name}"] = value.detach()
        elif _is_number(value):
            found[f"number.{name}"] = _number(value)
    return found


def from_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Puts back what `to_tensors` gave, into a new optimiser of the same kind."""
    kept = optimizer.state_dict()
    state: dict[str, Any] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        if kind == "group":
            kept["param_groups"][0][name] = tensor.item()
        else:
            state[name] = tensor if kind == "state" else tensor.item()
    kept["state"] = {0: state} if state else {}
    optimizer.load_state_dict(kept)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
