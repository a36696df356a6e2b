"""What moves the adapter. One flat buffer is the only parameter, so each optimiser is a single fused operation.

Others than torch's own are taken when their package is here, and named with the way to get it when not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from tintype.errors import InputError

_BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Choice:
    """One optimiser: how to make it for (parameter, learning rate, weight decay), and the package it needs, if any."""

    make: Callable[[nn.Parameter, float, float], torch.optim.Optimizer]
    package: str | None = None
    needs_gpu: bool = False


def _adamw(weights: nn.Parameter, rate: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW([weights], lr=rate, betas=_BETAS, weight_decay=decay, fused=True)


def _adamw8bit(weights: nn.Parameter, rate: float, decay: float) -> torch.optim.Optimizer:
    package: Any = importlib.import_module("bitsandbytes")
    made: torch.optim.Optimizer = package.optim.AdamW8bit([weights], lr=rate, betas=_BETAS, weight_decay=decay)
    return made


def _prodigy(weights: nn.Parameter, rate: float, decay: float) -> torch.optim.Optimizer:
    package: Any = importlib.import_module("prodigyopt")
    made: torch.optim.Optimizer = package.Prodigy([weights], lr=rate, betas=_BETAS, weight_decay=decay)
    return made


OPTIMIZERS = {
    "adamw": Choice(_adamw),
    "adamw8bit": Choice(_adamw8bit, package="bitsandbytes", needs_gpu=True),
    "prodigy": Choice(_prodigy, package="prodigyopt"),
}


def new_optimizer(name: str, weights: nn.Parameter, rate: float, decay: float) -> torch.optim.Optimizer:
    """Raises InputError as `check_usable` does."""
    check_usable(name, weights.device)
    return OPTIMIZERS[name].make(weights, rate, decay)


def check_usable(name: str, device: torch.device) -> None:
    """Raises InputError for a name that is unknown, or whose package or device is not here."""
    if name not in OPTIMIZERS:
        raise _refused(f"There is no optimizer {name!r}.", f"Choose one of {', '.join(usable(device))}.")
    choice = OPTIMIZERS[name]
    if choice.package is not None and find_spec(choice.package) is None:
        raise _refused(
            f"The optimizer {name} needs the package {choice.package}, which is not installed.",
            f"Install it (pip install {choice.package}), or choose one of {', '.join(usable(device))}.",
        )
    if choice.needs_gpu and device.type != "cuda":
        raise _refused(f"The optimizer {name} works on a GPU only.", "On a CPU, choose adamw.")


def usable(device: torch.device) -> list[str]:
    """Names of the optimizers that would work here."""
    return [
        name
        for name, choice in OPTIMIZERS.items()
        if (choice.package is None or find_spec(choice.package)) and (device.type == "cuda" or not choice.needs_gpu)
    ]


def to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Gives all that the optimiser knows, numbers included, as tensors on the CPU.

    Before its first step these are numbers only. Prodigy keeps its distance estimate beside the learning rate, so that
    numbers of the group are kept too.
    """
    kept = optimizer.state_dict()
    found = {f"group.{name}": _number(value) for name, value in kept["param_groups"][0].items() if _is_number(value)}
    for name, value in kept["state"].get(0, {}).items():
        if isinstance(value, torch.Tensor):
            found[f"state.{name}"] = value.detach().cpu().contiguous()
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


def _refused(message: str, remedy: str) -> InputError:
    return InputError(message, remedy=remedy)
