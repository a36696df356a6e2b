"""Keeps the LoRAs used lately inside the resident pipeline, so that swapping one costs nothing.

A LoRA that does not fit must leave the pipeline as it was: every file is read and checked before the first is loaded,
and one that fails while loading is taken out again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tintype.errors import about_input
from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair
from tintype.lora.tensor_file import digest_of, unusable
from tintype.models.family import Family

_NAME = "lora_"


@dataclass(frozen=True)
class LoraRequest:
    """A LoRA to generate with: its file, its strength, and the input that names it.

    The file may be something that gets it. What always is the same file has an `origin`: while it is loaded, it is not
    even asked for.
    """

    path: Path | Callable[[], Path]
    scale: float = 1.0
    about: tuple[str | int, ...] = ()  # below "body"
    origin: str = ""


class LoraCache:
    """The LoRAs loaded into one pipeline, least recently used first, `keep` of them at most."""

    def __init__(self, family: Family, keep: int) -> None:
        self._family = family
        self._keep = keep
        self._names: list[str] = []
        self._origins: dict[str, str] = {}  # to names
        self._beside: dict[str, Lora] = {}  # by names: what of them is not loaded into the pipeline
        self.triggers: tuple[str, ...] = ()  # phrases by which those that act are called in prompts
        self.acting: dict[str, float] = {}  # strengths by the beginning of the file's SHA-256

    @property
    def names(self) -> tuple[str, ...]:
        """Lists what is loaded."""
        self._forget_unloaded()
        return tuple(self._names)

    def apply(self, requests: Sequence[LoraRequest]) -> list[str]:
        """Makes exactly these LoRAs act on the pipeline, loading what is not there yet.

        Returns what a person should know about them. Raises UnusableAdapter about the input that names the one that
        does not fit; then no LoRA acts, and none was lost.
        """
        self._forget_unloaded()
        self.triggers, self.acting = (), {}
        pipeline = self._family.pipeline()
        if not requests:
            self._silence(pipeline)
            return []
        fresh: dict[str, tuple[LoraRequest, Lora]] = {}
        scales: dict[str, float] = {}
        for request in requests:
            with about_input(*request.about):
                name = self._read(request, fresh)
            scales[name] = scales.get(name, 0.0) + request.scale  # the same file twice acts as the sum
        try:
            for name, (request, lora) in fresh.items():
                with about_input(*request.about):
                    self._load(pipeline, name, lora)
            pipeline.enable_lora()
            pipeline.set_adapters(list(scales), list(scales.values()))
            self._apply_beside(scales)
        except BaseException:
            self._silence(pipeline)
            raise
        self._names = [name for name in self._names if name not in scales] + list(scales)
        self._tidy(pipeline, in_use=len(scales))
        self.acting = {name.removeprefix(_NAME): scale for name, scale in scales.items()}
        self.triggers = tuple(trigger for name in scales if (trigger := self._beside[name].trigger))
        return [remark for _, lora in fresh.values() for remark in lora.remarks]

    def _read(self, request: LoraRequest, fresh: dict[str, tuple[LoraRequest, Lora]]) -> str:
        """Its name, by its origin or by its file, which `fresh` then holds unless it is loaded."""
        known = self._origins.get(request.origin, "")
        if known in self._names:
            return known
        path = request.path if isinstance(request.path, Path) else request.path()
        digest = digest_of(path)
        name = name_of(digest)
        if name not in self._names and name not in fresh:
            fresh[name] = request, self._family.read_lora(path, digest)
        if request.origin:
            self._origins[request.origin] = name
        return name

    def _apply_beside(self, scales: Mapping[str, float]) -> None:
        """Makes what the pipeline does not load of these LoRAs act, each at its strength."""
        shifts: dict[str, torch.Tensor] = {}
        text: list[tuple[str, Pair]] = []
        for name, scale in scales.items():
            lora = self._beside[name]
            for vector, shift in lora.shifts.items():
                shifts[vector] = shifts.get(vector, 0) + scale * shift
            text += ((layer, replace(pair, alpha=scale * pair.alpha)) for layer, pair in lora.text.items())
        self._family.alter(shifts, text)

    def _load(self, pipeline: Any, name: str, lora: Lora) -> None:
        try:
            with warnings.catch_warnings():
                # PEFT warns of a second adapter as if it were a mistake.
                warnings.filterwarnings("ignore", "Already found a `peft_config`")
                pipeline.transformer.load_lora_adapter(
                    lora.state, adapter_name=name, metadata=lora.config, _pipeline=pipeline
                )
        except (ValueError, RuntimeError, KeyError, TypeError) as problem:
            # diffusers and PEFT raise all of these for files they do not understand.
            if name in loaded_names(pipeline):
                pipeline.delete_adapters(name)
            raise unusable(f"This LoRA could not be loaded ({problem}).") from None
        self._names.append(name)
        self._beside[name] = replace(lora, pairs={})

    def _silence(self, pipeline: Any) -> None:
        self._family.alter({})
        if loaded_names(pipeline):
            pipeline.disable_lora()

    def _tidy(self, pipeline: Any, in_use: int) -> None:
        while len(self._names) > max(self._keep, in_use):
            pipeline.delete_adapters(self._names.pop(0))
        self._origins = {origin: name for origin, name in self._origins.items() if name in self._names}
        self._beside = {name: lora for name, lora in self._beside.items() if name in self._names}

    def _forget_unloaded(self) -> None:
        """Training takes every adapter out of the shared transformer."""
        there = loaded_names(self._family.pipeline())
        self._names = [name for name in self._names if name in there]


def loaded_names(pipeline: Any) -> set[str]:
    """Lists the adapters in any part of the pipeline."""
    return {name for names in pipeline.get_list_adapters().values() for name in names}


def name_of(digest: str) -> str:
    """Makes a LoRA's name in the pipeline from its digest; module names may hold no dots."""
    return f"{_NAME}{digest[:24]}"
