"""Keeps the LoRAs drawn with lately inside the resident pipeline, so that swapping one costs nothing.

A LoRA that does not fit must leave the pipeline as it was: every file is read and checked before the first is loaded,
and one that fails while loading is taken out again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.lora.tensor_file import digest_of, unusable
from tintype.models.family import FittingLora, LoraHost

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class LoraRequest:
    """A LoRA to draw with: its file, its strength, and where in the input it was named.

    The file may be something that gets it. What always is the same file has an `origin`: while it is on the shelf, it
    is not even asked for.
    """

    path: Path | Callable[[], Path]
    scale: float
    loc: Loc
    origin: str = ""


class LoraCache:
    """The LoRAs loaded into one pipeline, least recently used first, `keep` of them at most."""

    def __init__(self, family: LoraHost, keep: int) -> None:
        self._family = family
        self._keep = keep
        self._names: list[str] = []
        self._origins: dict[str, str] = {}  # to names

    @property
    def names(self) -> tuple[str, ...]:
        """Digests of what is loaded."""
        self._forget_unloaded()
        return tuple(self._names)

    def apply(self, wanted: Sequence[LoraRequest]) -> list[str]:
        """Makes exactly these LoRAs act on the pipeline, loading what is not there yet.

        Returns what a person should know about them. Raises UnusableAdapter at the `loc` of the one that does not fit;
        then no LoRA acts, and none was lost.
        """
        self._forget_unloaded()
        pipeline = self._family.pipeline()
        if not wanted:
            self._silence(pipeline)
            return []
        files: dict[str, Path] = {}
        named = [(self._name(one, files), one) for one in wanted]
        places = {name: one.loc for name, one in named if name not in self._names}
        fresh = {name: self._family.read_lora(files[name], loc=loc) for name, loc in places.items()}
        try:
            for name, lora in fresh.items():
                self._load(pipeline, name, lora, places[name])
            scales: dict[str, float] = {}
            for name, one in named:  # the same file twice acts as the sum
                scales[name] = scales.get(name, 0.0) + one.scale
            pipeline.enable_lora()
            pipeline.set_adapters(list(scales), list(scales.values()))
        except BaseException:
            self._silence(pipeline)
            raise
        self._names = [name for name in self._names if name not in scales] + list(scales)
        self._tidy(pipeline, in_use=len(scales))
        return [remark for lora in fresh.values() for remark in lora.remarks]

    def _name(self, one: LoraRequest, files: dict[str, Path]) -> str:
        """By its origin, or by the file, which `files` then holds."""
        known = self._origins.get(one.origin, "")
        if known in self._names:
            return known
        path = one.path if isinstance(one.path, Path) else one.path()
        name = name_of(digest_of(path))
        files[name] = path
        if one.origin:
            self._origins[one.origin] = name
        return name

    def _load(self, pipeline: Any, name: str, lora: FittingLora, loc: Loc) -> None:
        try:
            with warnings.catch_warnings():
                # PEFT warns of a second adapter as if it were a mistake.
                warnings.filterwarnings("ignore", "Already found a `peft_config`")
                pipeline.transformer.load_lora_adapter(
                    dict(lora.state),
                    adapter_name=name,
                    metadata=dict(lora.settings),
                    _pipeline=pipeline,
                )
        except (ValueError, RuntimeError, KeyError, TypeError) as problem:
            # diffusers and PEFT raise all of these for files they do not understand.
            if name in loaded_names(pipeline):
                pipeline.delete_adapters(name)
            raise unusable(f"This LoRA could not be loaded ({problem}).", loc) from None
        self._names.append(name)

    def _silence(self, pipeline: Any) -> None:
        if loaded_names(pipeline):
            pipeline.disable_lora()

    def _tidy(self, pipeline: Any, in_use: int) -> None:
        while len(self._names) > max(self._keep, in_use):
            pipeline.delete_adapters(self._names.pop(0))
        self._origins = {origin: name for origin, name in self._origins.items() if name in self._names}

    def _forget_unloaded(self) -> None:
        """Training takes every adapter out of the shared transformer."""
        there = loaded_names(self._family.pipeline())
        self._names = [name for name in self._names if name in there]


def loaded_names(pipeline: Any) -> set[str]:
    """Names of the adapters in any part of the pipeline."""
    return {name for names in pipeline.get_list_adapters().values() for name in names}


def name_of(digest: str) -> str:
    """An adapter's name in the pipeline; module names may hold no dots."""
    return f"lora_{digest[:24]}"
