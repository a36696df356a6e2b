"""A training's last checkpoint as one file that a person keeps, and sends back to go on where it ended.

The file is a plain tar of what the checkpoint holds. It comes back from outside, so nothing in it is believed: names,
kinds and sizes are checked before a step is taken.
"""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import IO

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from tintype.errors import InputError
from tintype.files.disk import write_pieces, writing
from tintype.training.checkpoint import FACTS, OPTIMIZER, SNAPSHOTS, TENSORS
from tintype.training.optimizers import new_optimizer, to_tensors

NAME = "training-state.tar"
MOST_BYTES = 64 * 1024**3
_PIECE = 1 << 20
_PARTS = ("the base model's weights", "photos, captions or what is held out", "rank, seed or start", "settings")
_CANDIDATE = r"candidate-\d{5}(\.json|\.safetensors|-\d\.png)"
_EXPECTED = re.compile(
    rf"{re.escape(TENSORS)}|{re.escape(FACTS)}|{SNAPSHOTS}/({_CANDIDATE}|(lora|sample)-step-[\w.-]+)"
)
_REMEDY = "Send training-state.tar as it was handed over, or a LoRA."


class _Facts(BaseModel):
    """What is beside the tensors (`checkpoint.copy_state`)."""

    identity: str
    step: int = Field(ge=1)
    skipped: int = Field(ge=0)
    seconds: float = Field(ge=0)
    losses: list[float]


def pack_state(checkpoint: Path, path: Path) -> Path:
    """Writes all that a checkpoint's folder holds into one file."""
    parts = [part for part in sorted(checkpoint.rglob("*")) if part.is_file()]
    with writing(path.parent, sum(part.stat().st_size for part in parts)), tarfile.open(path, "w") as packed:
        for part in parts:
            packed.add(part, str(part.relative_to(checkpoint)))
    return path


def is_state_file(path: Path) -> bool:
    """Tells a file of `pack_state` from a LoRA."""
    return tarfile.is_tarfile(path)


def unpack_state(path: Path, folder: Path) -> int:
    """Unpacks into an empty folder, and returns after which step the training ended. Raises InputError."""
    try:
        with tarfile.open(path, "r:") as packed:
            for member in packed:
                source = packed.extractfile(member) if member.isreg() and not member.issparse() else None
                if source is None or not _EXPECTED.fullmatch(member.name):
                    raise _not_ours(f"it holds {member.name[:80]!r}")
                _write(source, folder / member.name)
        facts = _Facts.model_validate_json((folder / FACTS).read_bytes())
        with safe_open(folder / TENSORS, "pt") as tensors:
            if "weights" not in tensors.keys():  # noqa: SIM118 - it is no dict
                raise _not_ours("it holds no weights")
    except (tarfile.TarError, ValidationError, SafetensorError, OSError, EOFError) as problem:
        raise _not_ours("it is damaged") from problem
    if len(facts.losses) != facts.step:
        raise _not_ours("it is damaged")
    return facts.step


def _write(source: IO[bytes], place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    with place.open("wb") as written:
        write_pieces(written, iter(lambda: source.read(_PIECE), b""), place.parent)


def check_state(folder: Path, identity: str, weights: nn.Parameter, optimizer: str) -> None:
    """Raises InputError unless an unpacked state is of the training with this identity (`loop`), and whole."""
    kept = json.loads((folder / FACTS).read_text())["identity"].split(" ", 3)
    others = [name for name, one, other in zip(_PARTS, kept, identity.split(" ", 3), strict=False) if one != other]
    if others or len(kept) != len(_PARTS):
        raise InputError(
            f"The training state is of another training: {' and '.join(others) or 'its version'} differ.",
            remedy="Send the input of that training again, with more steps; to train otherwise, go on from its LoRA.",
        )
    with safe_open(folder / TENSORS, "pt") as tensors:
        sizes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    if sizes != _sizes_after_a_step(weights, optimizer):
        raise _not_ours("its tensors are of another adapter or optimizer")


def _sizes_after_a_step(weights: nn.Parameter, optimizer: str) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a checkpoint, asked of an optimizer that has taken a step."""
    twin = nn.Parameter(torch.zeros_like(weights.data))
    twin.grad = torch.ones_like(twin.data)
    stepped = new_optimizer(optimizer, twin, 1e-4, 0.0)
    stepped.step()
    moments = {f"{OPTIMIZER}{name}": tensor for name, tensor in to_tensors(stepped).items()}
    return {name: tuple(one.shape) for name, one in {**moments, "weights": twin, "average": twin}.items()}


def _not_ours(why: str) -> InputError:
    return InputError(f"This is no training state of tintype: {why}.", remedy=_REMEDY)
