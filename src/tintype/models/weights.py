"""Which base model is used, decided without torch and without downloading anything.

`auto` takes the real weights only where a GPU that fits them and the weights themselves are already here; else the
miniature, which every installation carries. The control half prints the decision and the compute half acts on it, so
both ask here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from tintype.devices import gpu_bytes
from tintype.errors import WeightsMissing
from tintype.lora.keys import some
from tintype.models.contents import INDEX, absent_files, another, check_pipeline, class_of, model_named, read_json
from tintype.models.registry import Edition, FamilySpec, family_spec
from tintype.settings import GIB, Settings

MINIATURE_LICENCE = "Apache-2.0, like tintype: trained by this project on drawings made by its own code."
_MINIATURE = Path(__file__).parent / "miniature" / "weights"


@dataclass(frozen=True)
class BaseWeights:
    """A base model's folder in diffusers' layout, and why it was chosen."""

    family: str  # as FamilySpec names it
    folder: Path
    source: str  # hub id, folder, or "miniature"
    why: str
    traits: Mapping[str, Any] = field(default_factory=dict)  # of miniature.json; empty for a real model

    @property
    def miniature(self) -> bool:
        return bool(self.traits)

    @property
    def fingerprint(self) -> str:
        """Changes when the weights do: names, sizes and times of the files, which is cheap even for 34 GB."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        seen = [(str(path.relative_to(self.folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    @cached_property
    def edition(self) -> Edition | None:
        """Which published model it is, where it is not the base model itself."""
        configuration = read_json(self.folder / "transformer" / "config.json")
        editions = () if self.miniature else family_spec(self.family).editions
        return next((edition for edition in editions if edition.is_of(self.source, configuration)), None)

    @property
    def own_traits(self) -> Mapping[str, Any]:
        """How its edition generates."""
        return self.edition.traits if self.edition else {}

    @property
    def name(self) -> str:
        """What a LoRA's file calls it: a hub id, or the name of a folder or file without the way there."""
        return self.source if _is_hub_id(self.source) else Path(self.source).name

    @property
    def facts(self) -> dict[str, str]:
        """Header entries of LoRAs trained on it: which model it is, where it is not the base model itself."""
        spec = family_spec(self.family)
        if self.miniature or (self.edition is None and not self._unknown):
            return {}
        version = f"{spec.lora_keys.facts.get('ss_base_model_version', spec.name)} ({self.name})"
        own = self.edition.facts if self.edition else {"ss_base_model_version": version}
        title = f"{self.edition.title} ({self.name})" if self.edition else self.name
        return {**own, "modelspec.description": f"A LoRA of {title}."}

    @property
    def _unknown(self) -> bool:
        """Whether someone else's repository is named: a model that may be trained further."""
        return _is_hub_id(self.source) and self.source != family_spec(self.family).repository

    @property
    def licence(self) -> str:
        if self.miniature:
            return MINIATURE_LICENCE
        spec = family_spec(self.family)
        stated = self.edition.licence if self.edition else spec.licence
        if self.edition or not self._unknown:
            return stated
        return f"That of https://huggingface.co/{self.source}; of what is made from {spec.title}: {stated}"

    @property
    def caution(self) -> str:
        """Says what a miniature cannot learn, what would, and how to get that; empty for a real model."""
        if not self.miniature:
            return ""
        spec = family_spec(self.family)
        return (
            f"The built-in miniature of {spec.title} knows only people that its own code draws. Photos of real people, "
            "animals or things teach it nothing, and its pictures of them are blots of colour. The real weights learn "
            f"them from these very files. {_way_to_real(spec)}."
        )


def resolve(settings: Settings, family: str = "flux") -> BaseWeights:
    """Decides which weights jobs will use. Raises WeightsMissing when what was asked for is not on this machine."""
    spec, asked = family_spec(family), settings.bases[family]
    if asked == "miniature":
        return _miniature(spec, f"{spec.setting} asks for it")
    if asked == "auto":
        return _automatic(settings, spec)
    path = Path(asked).expanduser()
    if path.exists() or not _is_hub_id(asked):
        return _named_path(spec, path, asked)
    return _named_repository(spec, asked)


def _named_path(spec: FamilySpec, folder: Path, asked: str) -> BaseWeights:
    if not (folder / INDEX).is_file():
        raise WeightsMissing(
            f"{asked} is no folder of a diffusers pipeline ({INDEX} is missing).",
            remedy=f"Set {spec.setting} to auto, miniature, a hub id, or a folder written by save_pretrained.",
        )
    check_pipeline(spec, folder, folder.name)
    return BaseWeights(spec.name, folder.resolve(), asked, f"{spec.setting} names this folder", _traits(folder))


def _named_repository(spec: FamilySpec, asked: str) -> BaseWeights:
    cached = cached_snapshot(spec, asked)
    if cached is not None:
        check_pipeline(spec, cached, asked)
        return BaseWeights(spec.name, cached, asked, f"{spec.setting} names it", _traits(cached))
    begun = next((folder for folder in snapshots_of(asked) if folder.is_dir()), None)
    if begun is not None and class_of(begun):
        check_pipeline(spec, begun, asked)
    elif model_named(asked) not in ("", spec.title, *(edition.title for edition in spec.editions)):
        raise another(spec, asked, model_named(asked))
    pull = f"tintype weights pull {spec.name}" + (f" --repository {asked}" if asked != spec.repository else "")
    if begun is None:
        raise WeightsMissing(
            f"The weights of {asked} are not on this machine.",
            remedy=f"Fetch them with `{pull}`, or set {spec.setting}=miniature.",
        )
    absent = some(([INDEX] if not (begun / INDEX).is_file() else []) + absent_files(begun, spec.parts))
    raise WeightsMissing(
        f"The weights of {asked} are not on this machine as a whole; missing are {absent}.",
        remedy=f"`{pull}` fetches what is missing.",
    )


def _is_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def summary(settings: Settings, family: str) -> str:
    """Says in one line which weights jobs will use, or why there are none."""
    try:
        return describe(resolve(settings, family))
    except WeightsMissing as problem:
        return problem.message


def describe(weights: BaseWeights) -> str:
    """Says in one line what is used, why, and how to get the other."""
    spec = family_spec(weights.family)
    if not weights.miniature:
        return f"{spec.short_title} base: {weights.source} ({weights.why})"
    return (
        f"{spec.short_title} base: the built-in miniature ({weights.why}), which knows only people that its own code "
        f"draws. {_way_to_real(spec)}"
    )


def _way_to_real(spec: FamilySpec) -> str:
    return (
        f"Real {spec.title}: `tintype weights pull {spec.name}` on a machine with a GPU of "
        f"{spec.gpu_bytes // GIB} GiB or more, then {spec.setting}=auto"
    )


def cached_snapshot(spec: FamilySpec, repository: str = "") -> Path | None:
    """Finds the complete local snapshot of a base model, or None; looks on the disk only."""
    found = snapshots_of(repository or spec.repository)
    return next(
        (folder for folder in found if (folder / INDEX).is_file() and not absent_files(folder, spec.parts)), None
    )


def snapshots_of(repository: str) -> tuple[Path, ...]:
    """Lists the local snapshots of a hub repository, the current one first."""
    home = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    heads = [home / "snapshots" / ref.read_text().strip() for ref in sorted(home.glob("refs/main"))]
    return (*heads, *sorted(home.glob("snapshots/*")))


def _automatic(settings: Settings, spec: FamilySpec) -> BaseWeights:
    if settings.device == "cpu":
        return _miniature(spec, "TINTYPE_DEVICE is cpu")
    memory = gpu_bytes()
    if memory is None:
        return _miniature(spec, "no NVIDIA GPU that this torch can use")
    if memory < spec.gpu_bytes:
        why = f"the GPU has {memory / GIB:.0f} GiB; {spec.title} needs {spec.gpu_bytes // GIB} GiB"
        return _miniature(spec, why)
    cached = cached_snapshot(spec)
    if cached is None:
        return _miniature(spec, f"a GPU fits, but the weights of {spec.repository} are not here")
    return BaseWeights(spec.name, cached, spec.repository, "its weights and a GPU that fits them are here")


def _miniature(spec: FamilySpec, why: str) -> BaseWeights:
    folder = _MINIATURE / spec.name
    traits = _traits(folder)
    if not traits or not (folder / INDEX).is_file():
        raise WeightsMissing(
            "The built-in miniature's weights are missing from this installation.",
            remedy=f"Install tintype again, or build them: python -m miniature.build --model {spec.name}.",
        )
    return BaseWeights(spec.name, folder, "miniature", why, traits)


def _traits(folder: Path) -> dict[str, Any]:
    """What a miniature says about itself; empty for a real model."""
    return read_json(folder / "miniature.json")
