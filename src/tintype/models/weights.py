"""Which base model is used, decided without torch and without downloading anything.

`auto` takes the real weights only where a GPU that fits them and the weights themselves are already here; else the
miniature, which every installation carries. The control half prints the decision and the compute half acts on it, so
both ask here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tintype.devices import gpu_bytes
from tintype.errors import WeightsMissing
from tintype.models.registry import FamilySpec, family_spec
from tintype.settings import GIB, Settings

MINIATURE_LICENCE = "Apache-2.0, like tintype: trained by this project on drawings made by its own code."
_MINIATURE = Path(__file__).parent / "miniature" / "weights"
_INDEX = "model_index.json"


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

    @property
    def licence(self) -> str:
        return MINIATURE_LICENCE if self.miniature else family_spec(self.family).licence

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
    folder = Path(asked).expanduser()
    if (folder / _INDEX).is_file():
        return BaseWeights(family, folder.resolve(), asked, f"{spec.setting} names this folder", _traits(folder))
    if folder.exists() or asked.count("/") != 1 or asked.startswith((".", "/", "~")):
        raise WeightsMissing(
            f"{asked} is no folder of a diffusers pipeline ({_INDEX} is missing).",
            remedy=f"Set {spec.setting} to auto, miniature, a hub id, or a folder written by save_pretrained.",
        )
    cached = cached_snapshot(spec, asked)
    if cached is None:
        raise WeightsMissing(
            f"The weights of {asked} are not on this machine.",
            remedy=f"Fetch them with `tintype weights pull {family}`, or set {spec.setting}=miniature.",
        )
    return BaseWeights(family, cached, asked, f"{spec.setting} names it", _traits(cached))


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
    return next((snapshot for snapshot in found if _complete(snapshot, spec.parts)), None)


def snapshots_of(repository: str) -> tuple[Path, ...]:
    """Lists the local snapshots of a hub repository, the current one first."""
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    home = Path(hub).expanduser() / f"models--{repository.replace('/', '--')}"
    heads = [home / "snapshots" / ref.read_text().strip() for ref in sorted(home.glob("refs/main"))]
    return (*heads, *sorted(home.glob("snapshots/*")))


def _complete(snapshot: Path, parts: Sequence[str]) -> bool:
    """Whether every part has its weights: all shards an index names, or a single file."""
    if not (snapshot / _INDEX).is_file():
        return False
    for folder in (snapshot / part for part in parts):
        for index in folder.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((folder / shard).exists() for shard in shards):
                return False
        if not any(folder.glob("*.safetensors")):
            return False
    return True


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
    if not traits or not (folder / _INDEX).is_file():
        raise WeightsMissing(
            "The built-in miniature's weights are missing from this installation.",
            remedy=f"Install tintype again, or build them: python -m miniature.build --model {spec.name}.",
        )
    return BaseWeights(spec.name, folder, "miniature", why, traits)


def _traits(folder: Path) -> dict[str, Any]:
    """What a miniature says about itself; empty for a real model."""
    path = folder / "miniature.json"
    if not path.is_file():
        return {}
    traits: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return traits
