"""Which base models there are, and what is known of each before any of it is loaded: importing this costs no torch.

A base model is a folder below models/ that declares a `FamilySpec` named FAMILY, and a line in `settings.BASE_MODELS`
that names it. Its setting, `tintype weights`, `tintype doctor` and what `tintype serve` prints follow from that.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tintype import settings
from tintype.errors import NotFound
from tintype.lora.keys import LoraKeys
from tintype.models.licence import Licence

if TYPE_CHECKING:
    from tintype.models.family import Family


#: What is needed of a repository in diffusers' layout: not the original code's files beside the folders.
IN_FOLDERS = ("*.json", "*.txt", "*.model", "*.jinja", "*/*.safetensors", "LICENSE*")


@dataclass(frozen=True)
class TrainingDefaults:
    """How a base model likes to be trained; a miniature states its own.

    `learning_rate_scale` multiplies every requested rate, and `decay_steps` says how it falls (see Plan; 0 is
    constant). `sigma_mean` and `sigma_std` are those of the normal distribution whose logistic is sigma;
    `sigma_shift` says whether sigma is then shifted as generating shifts it.
    """

    learning_rate_scale: float = 1.0
    batch_size: int = 1
    training_guidance: float = 1.0
    sigma_mean: float = 0.0
    sigma_std: float = 1.0
    sigma_shift: bool = True
    ema_decay: float = 0.99
    warmup_steps: int = 20
    decay_steps: int = 0
    weight_decay: float = 1e-4
    autocast: bool = False  # bf16 matrix products where the weights are fp32; measured: no faster on a small CPU model


@dataclass(frozen=True)
class Edition:
    """A published model of a base model's very architecture, and what is its own: name, licence, how it generates.

    It is known by its name in a hub id or a folder's, and where `configuration` is stated by the network's alone.
    """

    title: str
    named: str  # a pattern
    licence: Licence
    facts: Mapping[str, str]  # of the header of LoRAs that are trained on it
    configuration: Mapping[str, Any] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)  # as a miniature's
    caution: str = ""  # what whoever trains it should know

    def is_of(self, name: str, configuration: Mapping[str, Any]) -> bool:
        """Tells whether weights of this name and configuration are of this edition."""
        if self.configuration:
            return self.configuration.items() <= configuration.items()
        return re.search(self.named, name, re.IGNORECASE) is not None


@dataclass(frozen=True)
class PartFile:
    """How a part looks where it is a file: alone, by its names, or in a file of several parts, behind a prefix."""

    prefix: str
    marker: str  # a tensor that every such file has
    names: tuple[str, ...]  # patterns, the best first
    folders: tuple[str, ...]  # where ComfyUI keeps them


@dataclass(frozen=True)
class Download:
    """Files of a repository on the hub; without patterns all of it."""

    repository: str
    patterns: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class FamilySpec:
    """What a base model declares about itself. `implementation` is the `module:Class` of its `Family`."""

    name: str  # as `tintype weights` and endpoints call it, and the beginning of its setting
    short_title: str
    title: str
    licence: Licence
    repository: str  # on the hub, in diffusers' layout
    parts: tuple[str, ...]  # folders of the repository that hold weights
    gpu_bytes: int  # memory of a GPU that trains and generates with it, as `tintype plan` says; a test holds it to that
    text_window: int  # tokens of a text that it reads
    implementation: str
    lora_keys: LoraKeys  # what its LoRA files call its layers
    pipeline: str = ""  # class of diffusers that a folder of it names; empty: any
    network: str = ""  # class of its transformer
    bare_fp8: bool = False  # whether its fp8 files are published without scales
    configuration: Mapping[str, Any] = field(default_factory=dict)  # of the published one, beside the class's defaults
    least_gpu_bytes: int = 0  # of one that does so where its matrices are rounded, to nf4 at the least
    encoder_bytes: int = 0  # text encoders, as published
    autoencoder_bytes: int = 0
    generating_steps: int = 0  # of an image, unless someone asks for another number
    readable: str = "Use a folder in diffusers' layout."  # says which weights do
    editions: tuple[Edition, ...] = ()
    # For a base model whose parts may lie apart: its pipeline without weights, and where the parts are looked for.
    layout: Path | None = None
    files: Mapping[str, PartFile] = field(default_factory=dict)
    tokenizers: Mapping[str, str] = field(default_factory=dict)  # by part, the repository that has it alone
    file_repositories: tuple[str, ...] = ()
    further_repositories: tuple[str, ...] = ()  # fetched along with it
    forms: Mapping[str, tuple[Download, ...]] = field(default_factory=dict)  # to fetch beside bf16; the base's first
    small_form: str = ""  # the one for smaller GPUs
    training_defaults: TrainingDefaults = field(default_factory=TrainingDefaults)

    def needed_gpu(self, precision: str = "auto") -> int:
        """Counts the memory of a GPU that it needs in a precision, as settings have it."""
        return self.gpu_bytes if precision == "stored" else self.least_gpu_bytes or self.gpu_bytes

    @property
    def setting(self) -> str:
        """The environment variable that chooses the weights."""
        return settings.variable_of(f"{self.name}_base")

    def load(self) -> type[Family]:
        """Imports the class that implements it, and torch with it."""
        loaded: type[Family] = pkgutil.resolve_name(self.implementation)
        return loaded


def family_spec(name: str) -> FamilySpec:
    """Finds what a base model declares. Raises NotFound for a name that is not registered."""
    if name not in settings.BASE_MODELS:
        known = ", ".join(settings.BASE_MODELS)
        raise NotFound(f"{name!r} is not a base model.", remedy=f"Known are: {known}.")
    spec: FamilySpec = importlib.import_module(settings.BASE_MODELS[name]).FAMILY
    return spec


def family_specs() -> list[FamilySpec]:
    """Lists what every registered base model declares, in their order."""
    return [family_spec(name) for name in settings.BASE_MODELS]
