"""All of a run's state in one folder: adapter, optimiser, moving average, position, and whose data it was.

There is no random state to keep: batches and noise are functions of seed and step (`batches`, `loop`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

from tintype.files.disk import write_file
from tintype.lora.tensor_file import write_tensors
from tintype.training.optimizers import from_tensors, to_tensors

_TENSORS = "state.safetensors"
_FACTS = "state.json"
_SNAPSHOTS = "kept"
_OPTIMIZER = "optimizer."


_COUNTED = ("step", "skipped", "seconds", "losses")


@dataclass
class TrainingState:
    """What changes from step to step, but for the optimiser. `weights` and `average` are flat; `step` counts steps."""

    weights: torch.Tensor
    average: torch.Tensor
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0  # that the steps took
    losses: list[float] = field(default_factory=list)

    @classmethod
    def new(cls, weights: torch.Tensor) -> TrainingState:
        """Makes the state before the first step. weights: an adapter's own, in which it is trained."""
        return cls(weights, weights.clone())


def save(
    folder: Path, identity: str, state: TrainingState, optimizer: torch.optim.Optimizer, snapshot_dir: Path
) -> None:
    """Writes into an empty folder, files of `snapshot_dir` included; whoever calls makes it appear atomically."""
    moments = {f"{_OPTIMIZER}{name}": tensor for name, tensor in to_tensors(optimizer).items()}
    tensors = {"weights": state.weights, "average": state.average, **moments}
    write_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    facts = {"identity": identity, **{name: getattr(state, name) for name in _COUNTED}}
    write_file(folder / _FACTS, json.dumps(facts))
    _link_all(snapshot_dir, folder / _SNAPSHOTS)


def restore(
    folder: Path, identity: str, state: TrainingState, optimizer: torch.optim.Optimizer, snapshot_dir: Path
) -> bool:
    """Puts everything back as it was; False, changing nothing, when the checkpoint is of other data or settings."""
    facts = json.loads((folder / _FACTS).read_text())
    if facts["identity"] != identity:
        return False
    tensors = load_file(folder / _TENSORS)
    state.weights.copy_(tensors["weights"])
    state.average.copy_(tensors["average"])
    for name in _COUNTED:
        setattr(state, name, facts[name])
    _link_all(folder / _SNAPSHOTS, snapshot_dir)
    moments = {name: tensor for name, tensor in tensors.items() if name.startswith(_OPTIMIZER)}
    from_tensors(optimizer, {name.removeprefix(_OPTIMIZER): tensor for name, tensor in moments.items()})
    return True


def _link_all(source: Path, target: Path) -> None:
    """Files never change once written, so a second name is as good as a copy, and free."""
    target.mkdir(exist_ok=True)
    for path in source.glob("*"):
        if not (target / path.name).exists():
            (target / path.name).hardlink_to(path)
