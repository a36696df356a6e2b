"""A rounded network on the disk: the next start reads a half or a quarter of the bytes and rounds nothing.

A sum of each tensor's bytes stands in the header. A file that is damaged counts as none, and is made anew.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from tintype.errors import StorageFull
from tintype.files.quantised import identity_of, quantised_path
from tintype.lora.tensor_file import write_tensors
from tintype.models.contents import Part

log = logging.getLogger(__name__)


class QuantisedFile:
    """The rounded form of one network, in a folder of such files."""

    def __init__(self, folder: Path, part: Part, *facts: str) -> None:
        config = part.path / "config.json"
        self._sources = identity_of([*part.files, *([config] if config.is_file() else [])])
        self.path = quantised_path(folder, self._sources, part.prefix, *facts)

    def read(self, wanted: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor] | None:
        """Reads exactly these tensors, in their shapes, onto the device; None where there is no such sound file."""
        try:
            with safe_open(self.path, framework="pt", device=str(device)) as opened:
                sums = json.loads(opened.metadata()["sums"])
                found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            os.utime(self.path)  # it is in use
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as problem:
            log.warning("The rounded weights in %s are damaged (%s); they are made anew.", self.path, problem)
            return None
        shapes = {name: tensor.shape for name, tensor in wanted.items()}
        if {name: tensor.shape for name, tensor in found.items()} != shapes or _sums_of(found) != sums:
            log.warning("The rounded weights in %s are damaged; they are made anew.", self.path)
            return None
        return found

    def write(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keeps these for the next start, if there is room. Two that write at once do not meet."""
        own = self.path.with_name(f"{self.path.stem}-{os.getpid()}.safetensors")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(
                {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
                own,
                {"sources": self._sources, "sums": json.dumps(_sums_of(tensors))},
            )
            own.replace(self.path)
        except (StorageFull, OSError) as problem:
            log.warning("The rounded weights are not kept; the next start rounds again: %s", problem)


def _sums_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    return {name: _sum_of(tensor) for name, tensor in tensors.items()}


def _sum_of(tensor: torch.Tensor) -> int:
    """Adds up all bytes of a tensor, eight as one number where they allow it, which is as fast as memory."""
    flat = tensor.reshape(-1).view(torch.uint8)
    return int((flat.view(torch.int64) if flat.numel() % 8 == 0 else flat).sum(dtype=torch.int64))
