"""The base models that are resident in this process: a job finds what an earlier one left here."""

from __future__ import annotations

import gc
import os
from typing import TypeVar, cast

import torch

from tintype.devices import free_bytes, torch_device
from tintype.inference.images import ImageInference
from tintype.job import JobContext
from tintype.models.family import Family
from tintype.models.weights import resolve
from tintype.settings import Settings

AnyFamily = TypeVar("AnyFamily", bound=Family)
AnyInference = TypeVar("AnyInference", bound=ImageInference)


class ResidentModels:
    """Loads each base model once and keeps it, and what generates with it.

    Where another base would not fit beside those that are here, they go, with the LoRAs loaded into them.
    """

    def __init__(self, settings: Settings, device: str = "auto") -> None:
        # Beside all else that lasts: by itself, what was compiled lies in /tmp and is compiled again after a restart.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.data_dir.resolve() / "compiled"))
        self._settings = settings
        self._device = torch_device(device)
        self._families: dict[type[Family], Family] = {}
        self._inferences: dict[type[ImageInference], ImageInference] = {}

    def family(self, kind: type[AnyFamily]) -> AnyFamily:
        """Returns the base model of a class, with the weights that the settings choose. Raises WeightsMissing."""
        if kind not in self._families:
            weights = resolve(self._settings, kind.spec.name)
            needed = sum(weights.part_bytes().values())
            if needed > free_bytes(self._device):
                self.unload()
                self._families.clear()
            kind.check_loadable(weights, self._device)
            self._families[kind] = kind(weights, self._device)
        return cast(AnyFamily, self._families[kind])

    def inference(self, kind: type[AnyInference]) -> AnyInference:
        """Returns what generates with a base model, and keeps the LoRAs used lately. Raises WeightsMissing."""
        if kind not in self._inferences:
            family = self.family(kind.family_class)
            self._inferences[kind] = kind(family, keep=self._settings.resident_adapters)
        return cast(AnyInference, self._inferences[kind])

    def release_encoders(self, family: Family) -> None:
        """Lets go of all of a base but its bare transformer, where memory is scarce, and of what generates with it."""
        if family.release_encoders():
            self._inferences = {kind: one for kind, one in self._inferences.items() if one.family is not family}
            _collect()

    def unload(self) -> None:
        """Gives back all memory that models take; a family that someone holds loads again what is asked of it."""
        for family in self._families.values():
            family.unload()
        self._inferences.clear()
        _collect()


def resident_models(context: JobContext) -> ResidentModels:
    """Returns the context's, with its type: contexts are also made where the models must not be imported."""
    assert isinstance(context.resident_models, ResidentModels)
    return context.resident_models


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
