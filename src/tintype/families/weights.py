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

Family = Literal["flux"]

FLUX_REPOSITORY = "black-forest-labs/FLUX.1-dev"
# bf16 transformer (24 GB), activations of a 1024 px training step without recomputation, encoders one after another.
FLUX_GPU_BYTES = 70 * GIB
FLUX_LICENCE = (
    "FLUX.1 [dev] Non-Commercial License: the weights, and LoRAs made from them, may not be used commercially without "
    "a licence from Black Forest Labs. https://huggingface.co/black-forest-labs/FLUX.1-dev"
)
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
        return MINIATURE_LICENCE if self.miniature else FLUX_LICENCE


def resolve(settings: Settings, family: Family = "flux") -> BaseWeights:
    """The base that jobs will use. Raises WeightsMissing when what was asked for is not on this machine."""
    wanted = settings.flux_base
    if wanted == "miniature":
        return _miniature("TINTYPE_FLUX_BASE asks for it")
    if wanted == "auto":
        return _automatic(settings)
    folder = Path(wanted).expanduser()
    if (folder / _INDEX).is_file():
        return BaseWeights(family, folder.resolve(), wanted, "TINTYPE_FLUX_BASE names this folder", _traits(folder))
    if folder.exists() or wanted.count("/") != 1 or wanted.startswith((".", "/", "~")):
        raise WeightsMissing(
            f"{wanted} is no folder of a diffusers pipeline ({_INDEX} is missing).",
            remedy="Set TINTYPE_FLUX_BASE to auto, miniature, a hub id, or a folder written by save_pretrained.",
        )
    cached = cached_snapshot(wanted)
    if cached is None:
        raise WeightsMissing(
            f"The weights of {wanted} are not on this machine.",
            remedy="Fetch them with `tintype weights pull flux`, or set TINTYPE_FLUX_BASE=miniature.",
        )
    return BaseWeights(family, cached, wanted, "TINTYPE_FLUX_BASE names it", _traits(cached))


def describe(weights: BaseWeights) -> str:
    """One line for a person: what is used, why, and how to get the other."""
    if not weights.miniature:
        return f"FLUX base: {weights.source} ({weights.why})"
    return (
        f"FLUX base: the built-in miniature ({weights.why}). Real FLUX.1 [dev]: `tintype weights pull flux` on a "
        f"machine with a GPU of {FLUX_GPU_BYTES // GIB} GiB or more, then TINTYPE_FLUX_BASE=auto"
    )


def cached_snapshot(repository: str) -> Path | None:
    """The complete local snapshot of a hub repository, or None; looks on the disk only."""
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    home = Path(hub).expanduser() / f"models--{repository.replace('/', '--')}"
    heads = [home / "snapshots" / ref.read_text().strip() for ref in sorted(home.glob("refs/main"))]
    for snapshot in (*heads, *sorted(home.glob("snapshots/*"))):
        if _complete(snapshot):
            return snapshot
    return None


def _complete(snapshot: Path) -> bool:
    """Whether every component has its weights: all shards an index names, or a single file."""
    if not (snapshot / _INDEX).is_file():
        return False
    for component in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        folder = snapshot / component
        for index in folder.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((folder / shard).exists() for shard in shards):
                return False
        if not any(folder.glob("*.safetensors")):
            return False
    return True


def _automatic(settings: Settings) -> BaseWeights:
    if settings.device == "cpu":
        return _miniature("TINTYPE_DEVICE is cpu")
    memory = gpu_bytes()
    if memory is None:
        return _miniature("no NVIDIA GPU that this torch can use")
    if memory < FLUX_GPU_BYTES:
        return _miniature(f"the GPU has {memory / GIB:.0f} GiB; FLUX.1 [dev] needs {FLUX_GPU_BYTES // GIB} GiB")
    cached = cached_snapshot(FLUX_REPOSITORY)
    if cached is None:
        return _miniature(f"a GPU fits, but the weights of {FLUX_REPOSITORY} are not here")
    return BaseWeights("flux", cached, FLUX_REPOSITORY, "its weights and a GPU that fits them are here")


def _miniature(why: str) -> BaseWeights:
    folder = _MINIATURE / "flux"
    traits = _traits(folder)
    if not traits or not (folder / _INDEX).is_file():
        raise WeightsMissing(
            "The built-in miniature's weights are missing from this installation.",
            remedy="Install tintype again, or build them: python -m tintype.families.miniature.build.",
        )
    return BaseWeights("flux", folder, "miniature", why, traits)


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
