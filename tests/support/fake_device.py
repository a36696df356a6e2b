"""A device of a few megabytes for two children: it counts what each of them really has on it, and runs out of memory.

A supervisor is given this module as its endpoints, so each child imports it. Weights are counted as long as anything
holds on to them, and a step with what its backward pass keeps; nothing here knows of the ledger. What both children
have together is in the file that FAKE_DEVICE names, and what they had at the fullest.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import torch

from tintype import catalog
from tintype.jobs.resident_models import ResidentModels
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings
from tintype.training.memory_plan import stored_bytes
from tintype.training.step import Stepper

ENDPOINTS = catalog.ENDPOINTS

_networks: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()


def _count(besides: int = 0) -> None:
    """Writes down what this process has. Raises OutOfMemoryError where both together have more than there is."""
    lane = sys.argv[sys.argv.index("--lane") + 1]
    tensors = (tensor for network in list(_networks) for tensor in (*network.parameters(), *network.buffers()))
    with Path(os.environ["FAKE_DEVICE"]).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        told = json.loads(file.read() or "{}")
        told[lane] = sum(map(stored_bytes, tensors)) + besides
        together = told.get("training", 0) + told.get("inference", 0)
        told["fullest"] = max(told.get("fullest", 0), together)
        file.truncate(0)
        file.write(json.dumps(told))
    budget = load_settings().device_memory_bytes
    if budget is not None and together > budget:
        raise torch.OutOfMemoryError(f"the fake device has {budget} bytes, and {together} are asked for")


def _counted(read: Any) -> Any:
    def wrapper(family: FluxFamily) -> Any:
        parts = read(family)
        modules = parts.components.values() if hasattr(parts, "components") else [parts]
        _networks.update(module for module in modules if isinstance(module, torch.nn.Module))
        _count()
        return parts

    return wrapper


def _differentiate(stepper: Stepper, step: int) -> torch.Tensor:
    shape = stepper._largest_shape()
    _count(shape.total_bytes(stepper.memory.recomputed) - shape.weights)
    try:
        return _really_differentiate(stepper, step)
    finally:
        _count()


def _unload(models: ResidentModels) -> None:
    _really_unload(models)
    _count()


if "--lane" in sys.argv:  # in a child
    FluxFamily._read_encoders = _counted(FluxFamily._read_encoders)  # type: ignore[method-assign]
    FluxFamily._read_transformer = _counted(FluxFamily._read_transformer)  # type: ignore[method-assign]
    _really_differentiate, _really_unload = Stepper.differentiate, ResidentModels.unload
    Stepper.differentiate = _differentiate  # type: ignore[method-assign,assignment]
    ResidentModels.unload = _unload  # type: ignore[method-assign,assignment]
