"""All of a run's state in one folder: adapter, optimiser, moving average, position, and whose data it was.

There is no random state to keep: batches and noise are functions of seed and step (`batches`, `loop`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_TENSORS = "state.safetensors"
_FACTS = "state.json"
_KEEPSAKES = "kept"


@dataclass
class TrainingState:
    """What changes from step to step besides the adapter and its optimiser. `step` counts steps done."""

    average: torch.Tensor
    step: int = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)

    @classmethod
    def new(cls, weights: torch.Tensor) -> TrainingState:
        return cls(weights.clone())


def save(
    folder: Path,
    identity: str,
    weights: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    keepsakes: Path,
) -> None:
    """Writes into an empty folder, files of `keepsakes` included; whoever calls makes it appear atomically."""
    tensors = {"weights": weights, "average": state.average, **_moments(optimizer)}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    facts = {"identity": identity, "step": state.step, "skipped": state.skipped, "losses": state.losses}
    (folder / _FACTS).write_text(json.dumps(facts))
    _link_all(keepsakes, folder / _KEEPSAKES)


def restore(
    folder: Path,
    identity: str,
    weights: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    keepsakes: Path,
) -> bool:
    """Puts everything back as it was; False, changing nothing, when the checkpoint is of other data or settings."""
    facts = json.loads((folder / _FACTS).read_text())
    if facts["identity"] != identity:
        return False
    tensors = load_file(folder / _TENSORS)
    weights.copy_(tensors["weights"])
    state.average.copy_(tensors["average"])
    state.step, state.skipped, state.losses = facts["step"], facts["skipped"], facts["losses"]
    _link_all(folder / _KEEPSAKES, keepsakes)
    parameter = optimizer.param_groups[0]["params"][0]
    optimizer.state[parameter] = {
        "step": tensors["moment.step"],
        "exp_avg": tensors["moment.exp_avg"].to(weights.device),
        "exp_avg_sq": tensors["moment.exp_avg_sq"].to(weights.device),
    }
    return True


def _link_all(source: Path, target: Path) -> None:
    """Files never change once written, so a second name is as good as a copy, and free."""
    target.mkdir(exist_ok=True)
    for path in source.glob("*.safetensors"):
        if not (target / path.name).exists():
            (target / path.name).hardlink_to(path)


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    parameter = optimizer.param_groups[0]["params"][0]
    kept = optimizer.state.get(parameter)
    if not kept:  # every step so far was skipped
        nothing = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        kept = {"step": torch.tensor(0.0), **nothing}
    return {f"moment.{name}": kept[name] for name in ("step", "exp_avg", "exp_avg_sq")}
