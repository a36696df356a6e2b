"""Which base model is used, decided without torch and without downloading anything.

`auto` takes the real weights only where a GPU that fits them and the weights themselves are already here; else the
miniature, which every installation carries. The control half prints the decision and the compute half acts on it, so
both ask here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tintype.errors import WeightsMissing
from tintype.settings import GIB, Settings

Family = Literal["flux", "ideogram4"]

FLUX_REPOSITORY = "black-forest-labs/FLUX.1-dev"
# bf16 transformer (24 GB), activations of a 1024 px training step without recomputation, encoders one after another.
FLUX_GPU_BYTES = 70 * GIB
FLUX_LICENCE = (
    "FLUX.1 [dev] Non-Commercial License: the weights, and LoRAs made from them, may not be used commercially without "
    "a licence from Black Forest Labs. https://huggingface.co/black-forest-labs/FLUX.1-dev"
)
IDEOGRAM4_REPOSITORY = "CalamitousFelicitousness/Ideogram-4-bf16-Diffusers"
# One 9.3 B transformer in bf16, activations of a 1024 px step, the other and the encoders one after another.
IDEOGRAM4_GPU_BYTES = 78 * GIB
IDEOGRAM4_LICENCE = (
    "Ideogram Non-Commercial Model Agreement: the weights, and LoRAs made from them, are for non-commercial use only; "
    "training for commercial use and hosting for revenue need a licence from Ideogram. "
    "https://huggingface.co/ideogram-ai/ideogram-4-nf4"
)
# Turns Ideogram 4's text encoder, which is Qwen3-VL 8B, into the language model that can write prompts.
PROMPT_HEAD_REPOSITORY = "diffusers/qwen3-vl-8b-instruct-lm-head"
_PROMPT_HEAD = "prompt_enhancer_head"
MINIATURE_LICENCE = "Apache-2.0, like tintype: trained by this project on drawings made by its own code."
_MINIATURE = Path(__file__).parent / "miniature" / "weights"
_INDEX = "model_index.json"


@dataclass(frozen=True)
class BaseWeights:
    """A base model's folder in diffusers' layout, and why it was chosen."""

    family: Family
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
        return MINIATURE_LICENCE if self.miniature else _BASES[self.family].licence


@dataclass(frozen=True)
class _Base:
    """What differs between the bases when weights are looked for."""

    title: str
    variable: str  # of the setting that chooses it
    repository: str
    gpu_bytes: int
    licence: str


_BASES: Mapping[Family, _Base] = {
    "flux": _Base("FLUX.1 [dev]", "TINTYPE_FLUX_BASE", FLUX_REPOSITORY, FLUX_GPU_BYTES, FLUX_LICENCE),
    "ideogram4": _Base(
        "Ideogram 4", "TINTYPE_IDEOGRAM4_BASE", IDEOGRAM4_REPOSITORY, IDEOGRAM4_GPU_BYTES, IDEOGRAM4_LICENCE
    ),
}


def resolve(settings: Settings, family: Family = "flux") -> BaseWeights:
    """The base that jobs will use. Raises WeightsMissing when what was asked for is not on this machine."""
    wanted = settings.flux_base if family == "flux" else settings.ideogram4_base
    variable = _BASES[family].variable
    if wanted == "miniature":
        return _miniature(family, f"{variable} asks for it")
    if wanted == "auto":
        return _automatic(settings, family)
    folder = Path(wanted).expanduser()
    if (folder / _INDEX).is_file():
        return BaseWeights(family, folder.resolve(), wanted, f"{variable} names this folder", _traits(folder))
    if folder.exists() or wanted.count("/") != 1 or wanted.startswith((".", "/", "~")):
        raise WeightsMissing(
            f"{wanted} is no folder of a diffusers pipeline ({_INDEX} is missing).",
            remedy=f"Set {variable} to auto, miniature, a hub id, or a folder written by save_pretrained.",
        )
    cached = cached_snapshot(wanted)
    if cached is None:
        raise WeightsMissing(
            f"The weights of {wanted} are not on this machine.",
            remedy=f"Fetch them with `tintype weights pull {family}`, or set {variable}=miniature.",
        )
    return BaseWeights(family, cached, wanted, f"{variable} names it", _traits(cached))


def describe(weights: BaseWeights) -> str:
    """One line for a person: what is used, why, and how to get the other."""
    base, name = _BASES[weights.family], "FLUX" if weights.family == "flux" else "Ideogram 4"
    if not weights.miniature:
        return f"{name} base: {weights.source} ({weights.why})"
    return (
        f"{name} base: the built-in miniature ({weights.why}). Real {base.title}: `tintype weights pull "
        f"{weights.family}` on a machine with a GPU of {base.gpu_bytes // GIB} GiB or more, then {base.variable}=auto"
    )


def cached_snapshot(repository: str) -> Path | None:
    """The complete local snapshot of a hub repository, or None; looks on the disk only."""
    return next((snapshot for snapshot in _snapshots(repository) if _complete(snapshot)), None)


def prompt_head(weights: BaseWeights) -> Path | None:
    """The folder of the head that lets Ideogram 4's text encoder write: the pipeline's own, or the one fetched beside
    it; None where there is none. A miniature's encoder is too small to write anything."""
    if weights.miniature:
        return None
    apart = _snapshots(PROMPT_HEAD_REPOSITORY)
    return next((path for path in (weights.folder / _PROMPT_HEAD, *apart) if any(path.glob("*.safetensors"))), None)


def _snapshots(repository: str) -> tuple[Path, ...]:
    """Local snapshots of a hub repository, the current one first."""
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    home = Path(hub).expanduser() / f"models--{repository.replace('/', '--')}"
    heads = [home / "snapshots" / ref.read_text().strip() for ref in sorted(home.glob("refs/main"))]
    return (*heads, *sorted(home.glob("snapshots/*")))


def _complete(snapshot: Path) -> bool:
    """Whether every component has its weights: all shards an index names, or a single file."""
    if not (snapshot / _INDEX).is_file():
        return False
    kind = json.loads((snapshot / _INDEX).read_text(encoding="utf-8")).get("_class_name")
    second = "unconditional_transformer" if kind == "Ideogram4Pipeline" else "text_encoder_2"
    for component in ("transformer", "vae", "text_encoder", second):
        folder = snapshot / component
        for index in folder.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((folder / shard).exists() for shard in shards):
                return False
        if not any(folder.glob("*.safetensors")):
            return False
    return True


def _automatic(settings: Settings, family: Family) -> BaseWeights:
    base = _BASES[family]
    if settings.device == "cpu":
        return _miniature(family, "TINTYPE_DEVICE is cpu")
    memory = gpu_bytes()
    if memory is None:
        return _miniature(family, "no NVIDIA GPU that this torch can use")
    if memory < base.gpu_bytes:
        said = f"the GPU has {memory / GIB:.0f} GiB; {base.title} needs {base.gpu_bytes // GIB} GiB"
        return _miniature(family, said)
    cached = cached_snapshot(base.repository)
    if cached is None:
        return _miniature(family, f"a GPU fits, but the weights of {base.repository} are not here")
    return BaseWeights(family, cached, base.repository, "its weights and a GPU that fits them are here")


def _miniature(family: Family, why: str) -> BaseWeights:
    folder = _MINIATURE / family
    traits = _traits(folder)
    if not traits or not (folder / _INDEX).is_file():
        raise WeightsMissing(
            "The built-in miniature's weights are missing from this installation.",
            remedy=f"Install tintype again, or build them: python -m miniature.build --model {family}.",
        )
    return BaseWeights(family, folder, "miniature", why, traits)


def _traits(folder: Path) -> dict[str, Any]:
    """What a miniature says about itself; empty for a real model."""
    path = folder / "miniature.json"
    if not path.is_file():
        return {}
    traits: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return traits


@functools.cache
def gpu_bytes() -> int | None:
    """Memory of the largest NVIDIA GPU, or None: no driver, no GPU, or a torch built without CUDA."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or "+cpu" in importlib.metadata.version("torch"):
        return None
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return None
    sizes = [int(line) for line in answer.split() if line.isdigit()]
    return max(sizes) * 1024 * 1024 if sizes else None
