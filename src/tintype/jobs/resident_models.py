"""The base models that are resident in this process: a job finds what an earlier one left here."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import torch

from tintype.catalog.endpoint import Kind
from tintype.devices import free_bytes, torch_device
from tintype.errors import MemoryTaken
from tintype.inference.images import ImageInference
from tintype.job import JobContext
from tintype.models.family import Family
from tintype.models.generating_memory import generating_demand
from tintype.models.weights import resolve
from tintype.settings import Settings
from tintype.training.card_plan import with_precision
from tintype.training.memory_plan import stored_bytes

AnyFamily = TypeVar("AnyFamily", bound=Family)
AnyInference = TypeVar("AnyInference", bound=ImageInference)


_USUAL_SIZE = (1024, 1024)  # nominal pixels

# Asks the owner of the device's memory: how many bytes at most and at least this process would hold in all, and what
# takes them. Returns how many it may hold, None where nobody counts them; raises MemoryTaken.
AskMemory = Callable[[int, int, str], int | None]


class ResidentModels:
    """Loads each base model once and keeps it, and what generates with it.

    Where another base would not fit beside those that are here, they go, with the LoRAs loaded into them. Where another
    process works on the device as well, `ask_memory` asks who owns its memory.
    """

    def __init__(self, settings: Settings, device: str = "auto", ask_memory: AskMemory | None = None) -> None:
        # Beside all else that lasts: by itself, what was compiled lies in /tmp and is compiled again after a restart.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.data_dir.resolve() / "compiled"))
        self._settings = settings
        self._device = torch_device(device)
        self._ask_memory = ask_memory
        self._granted: int | None = None  # bytes in all, to the job that runs
        self._families: dict[type[Family], Family] = {}
        self._inferences: dict[type[ImageInference], ImageInference] = {}

    def family(self, kind: type[AnyFamily], lane: Kind = "training") -> AnyFamily:
        """Returns the base model of a class, with the weights that the settings choose. Raises WeightsMissing.

        Where its precision is to be chosen, that is the first which fits the device in the lane that asks first.
        """
        if kind not in self._families:
            weights = resolve(self._settings, kind.spec.name)
            weights = with_precision(weights, str(self._device), lane, self._settings.device_memory_bytes)
            kind.check_loadable(weights, self._device)
            self._families[kind] = kind(weights, self._device)
            placement = self._families[kind].placement
            if placement.free is not None:
                placement.free = partial(self._left, placement.free)
        return cast(AnyFamily, self._families[kind])

    def inference(self, kind: type[AnyInference]) -> AnyInference:
        """Returns what generates with a base model, and keeps the LoRAs used lately; sees to room for loading it.

        Raises WeightsMissing, and MemoryTaken where the device's memory is in use.
        """
        family = self.family(kind.family_class, "inference")
        self.make_room(family, *generating_demand(family, *_USUAL_SIZE), f"generating with {family.spec.title}")
        if kind not in self._inferences:
            self._inferences[kind] = kind(family, keep=self._settings.resident_adapters)
        return cast(AnyInference, self._inferences[kind])

    def make_room(self, family: Family, most: int, least: int, what: str) -> None:
        """Sees to so many bytes beside what is loaded of a base, if need be `least`: other bases of this process go if
        they are in the way.

        Raises MemoryTaken where the rest is in use by another process that works. Does nothing more where that is not
        known: the device says whether it fits.
        """
        others = [other for other in self._families.values() if other is not family and other.loaded_modules()]
        try:
            if self.reserve(most, least, what) >= most or not others:
                return
        except MemoryTaken:
            if not others:
                raise
        for other in others:
            other.unload()
        self._inferences = {kind: one for kind, one in self._inferences.items() if one.family is family}
        _collect()
        self.reserve(most, least, what)

    def reserve(self, most: int, least: int, what: str) -> int:
        """Returns how many bytes may be taken beside what is loaded: all that are free on the device, unless another
        process has some of them. Of `most`, which would be of use, no other process gets any until this job has ended.

        Raises MemoryTaken where fewer than `least` are to be had and others work with the rest.
        """
        if self._ask_memory is None:
            return free_bytes(self._device)
        held = self._held_bytes()
        available = self._ask_memory(held + most, held + least, what)
        self._granted = None if available is None else min(available, held + most)
        free = free_bytes(self._device)  # only now: another process may have let go of its models for this one
        return free if available is None else max(0, min(free, available - held))

    def held_after_job(self) -> int:
        """Counts the bytes of the device that this process holds; what the job was granted is nobody's from now on."""
        self._granted = None
        return self._held_bytes()

    def _left(self, free: Callable[[], int]) -> int:
        """How many of the bytes that are free on the device this process may take."""
        return free() if self._granted is None else max(0, min(free(), self._granted - self._held_bytes()))

    def _held_bytes(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.memory_allocated(self._device))
        modules = (module for family in self._families.values() for module in family.loaded_modules())
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        return sum(map(stored_bytes, tensors))

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
