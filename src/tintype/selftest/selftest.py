"""All checks of all base models, one after another, and what is told of the machine they ran on."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from tintype import __version__
from tintype.devices import gpus, torch_device
from tintype.inference.flux import FluxInference
from tintype.inference.ideogram4 import IdeogramInference
from tintype.inference.images import ImageInference
from tintype.jobs.resident_models import ResidentModels
from tintype.models.registry import FamilySpec
from tintype.selftest.anonymous import Anonymous, called
from tintype.selftest.checked_base import CheckedBase, Extent
from tintype.selftest.lora_files import check_files
from tintype.selftest.pictures import check_picture, check_swapped, check_turns
from tintype.selftest.result import Found, NotRun, Outcome, Result, result_of
from tintype.selftest.resuming import Resuming
from tintype.selftest.steps import StepChecks
from tintype.selftest.tokens import check_tokens
from tintype.settings import GIB, Settings

_INFERENCES: dict[str, type[ImageInference]] = {"flux": FluxInference, "ideogram4": IdeogramInference}
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "safetensors")
Check = Callable[[CheckedBase], Found]


class Selftest:
    """The checks of some base models, in a folder that may be deleted afterwards."""

    def __init__(self, settings: Settings, specs: Sequence[FamilySpec], folder: Path, extent: Extent) -> None:
        self._settings = settings.model_copy(update={"data_dir": folder / "data"})
        self._specs, self._folder, self._extent = specs, folder, extent
        self._models = ResidentModels(self._settings, settings.device)
        self._anonymous = Anonymous(settings)

    @property
    def count(self) -> int:
        """Counts the checks."""
        return len(self._specs) * len(self._checks())

    def results(self, about: Callable[[str], None] = lambda name: None) -> Iterator[Result]:
        """Runs the checks; `about` hears which one begins."""
        for spec in self._specs:
            base = CheckedBase(spec, _INFERENCES[spec.name], self._models, self._folder / spec.name, self._extent)
            for name, check in self._checks().items():
                about(f"{spec.name}: {name}")
                result = result_of(spec.name, name, partial(check, base))
                if result.outcome is Outcome.FAILED:
                    self._models.unload()
                yield replace(
                    result,
                    what=self._anonymous.text(result.what),
                    remedy=self._anonymous.text(result.remedy),
                    figures=self._anonymous.all(result.figures),
                )
            self._models.unload()
            gc.collect()

    def _checks(self) -> dict[str, Check]:
        steps = StepChecks()
        return {
            "weights": self._check_weights,
            "tokenizers": check_tokens,
            "picture": check_picture,
            "LoRAs swapped": check_swapped,
            "networks in turns": check_turns,
            "LoRA files": check_files,
            "steps, own order": steps.own,
            "steps, plain": steps.plain,
            "steps, compiled": steps.compiled,
            "checkpoint": Resuming(self._settings).check,
            "published size": self._check_published,
        }

    def _check_weights(self, base: CheckedBase) -> Found:
        family = base.family
        weights = family.weights
        about = {"weights": called(weights, base.spec), "dtype": str(family.dtype), "precision": weights.precision}
        size = f"{sum(weights.part_bytes().values()) / GIB:.2f} GiB"
        rounded = "" if weights.precision == "stored" else f", matrices in {weights.precision}"
        figures = {**about, "bytes": weights.part_bytes()}
        return Found(f"{about['weights']}, {size}, {family.dtype}{rounded} on {family.device.type}", figures)

    def _check_published(self, base: CheckedBase) -> Found:
        if base.family.weights.miniature:
            raise NotRun(f"{base.spec.title} itself is not here; `tintype weights` fetches it for a GPU that fits it")
        return Found("all of the above is of published weights")


def machine(settings: Settings) -> dict[str, Any]:
    """Tells what the checks ran on, as far as it matters to speed and memory, and nothing that tells whose it is."""
    device = torch_device(settings.device)
    told: dict[str, Any] = {
        "tintype": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "device": device.type,
    }
    for gpu in gpus().found:
        if gpu.id == (str(device) if device.index is not None else f"{device.type}:0"):
            toolkit = gpus().toolkit
            told |= {"gpu": gpu.name, "gpu_bytes": gpu.memory_bytes, "gpu_arch": gpu.arch, "toolkit": toolkit}
    return told
