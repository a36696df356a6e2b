"""All of a run's state in one folder: adapter, optimiser, moving average, position, and whose data it was.

There is no random state to keep: batches and noise are functions of seed and step (`batches`, `loop`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tintype.files.disk import write_file
from tintype.lora.tensor_file import write_tensors
from tintype.training.optimizers import from_tensors, to_tensors

TENSORS = "state.safetensors"
FACTS = "state.json"
SNAPSHOTS = "kept"
OPTIMIZER = "optimizer."


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


@dataclass(frozen=True)
class StateCopy:
    """A run's state as it was at one step, while steps go on. `copied` has happened once the tensors are complete."""

    tensors: dict[str, torch.Tensor]
    facts: str
    snapshots: list[Path]
    copied: Any = None

    def write(self, folder: Path) -> None:
        """Writes into an empty folder, snapshots included; whoever calls makes it appear atomically."""
        if self.copied is not None:
            self.copied.synchronize()
        write_tensors(self.tensors, folder / TENSORS)
        write_file(folder / FACTS, self.facts)
        write_snapshots(self.snapshots, folder)


def write_snapshots(snapshots: Iterable[Path], folder: Path) -> None:
    """Writes into a folder of a checkpoint what was kept on the way."""
    _link_all(snapshots, folder / SNAPSHOTS)


def copy_state(identity: str, state: TrainingState, optimizer: torch.optim.Optimizer, snapshot_dir: Path) -> StateCopy:
    """Copies what a checkpoint holds into this computer's memory; a GPU copies by itself, before its next step."""
    moments = {f"{OPTIMIZER}{name}": tensor for name, tensor in to_tensors(optimizer).items()}
    tensors = {"weights": state.weights, "average": state.average, **moments}
    copies = {name: _copied(tensor.detach()) for name, tensor in tensors.items()}
    facts = json.dumps({"identity": identity, **{name: getattr(state, name) for name in _COUNTED}})
    copied = torch.cuda.current_stream(state.weights.device).record_event() if state.weights.is_cuda else None
    return StateCopy(copies, facts, [*snapshot_dir.glob("*")], copied)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
    try:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    except RuntimeError:  # not so much memory can be pinned
        return tensor.cpu().contiguous()


def restore(
    folder: Path, identity: str, state: TrainingState, optimizer: torch.optim.Optimizer, snapshot_dir: Path
) -> bool:
    """Puts everything back as it was; False, changing nothing, when the checkpoint is of other data or settings."""
    facts = json.loads((folder / FACTS).read_text())
    if facts["identity"] != identity:
        return False
    tensors = load_file(folder / TENSORS)
    state.weights.copy_(tensors["weights"])
    state.average.copy_(tensors["average"])
    for name in _COUNTED:
        setattr(state, name, facts[name])
    _link_all((folder / SNAPSHOTS).glob("*"), snapshot_dir)
    moments = {name: tensor for name, tensor in tensors.items() if name.startswith(OPTIMIZER)}
    from_tensors(optimizer, {name.removeprefix(OPTIMIZER): tensor for name, tensor in moments.items()})
    return True


def _link_all(files: Iterable[Path], target: Path) -> None:
    """Files never change once written, so a second name is as good as a copy, and free. What is gone by now was
    superseded by a later step, which will be taken again."""
    target.mkdir(exist_ok=True)
    for path in files:
        if not (target / path.name).exists():
            with suppress(FileNotFoundError):
                (target / path.name).hardlink_to(path)
