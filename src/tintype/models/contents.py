"""What a folder or a file of weights holds, told by its configuration and its tensors' names before any is loaded.

Whoever names the wrong model hears which one it is and what to do, in a moment and on any machine, instead of a crash
after gigabytes were read. Importing this costs no torch.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.errors import WeightsMissing
from tintype.lora.keys import Entry
from tintype.lora.origin import guess, named
from tintype.models.registry import FamilySpec, family_specs

_NO_LETTER = re.compile(r"[\W_]+")
INDEX = "model_index.json"
_LATENTS_PER_TOKEN = 4  # latent pixels, two by two, in each base model here
_LONGEST_HEADER = 64 * 1024 * 1024  # bytes
# Packings that only the programs they come from read, by the ends of their tensors' names.
_PACKED = {
    (".qweight", ".wscales"): "is an SVDQuant file (Nunchaku)",
    (".absmax", ".quant_map"): "is in bitsandbytes nf4 in one file",
    (".weight_scale_2",): "is in nvfp4",
    (".lora_A.weight", ".lora_down.weight"): "is a LoRA and no base model",
}


@dataclass(frozen=True)
class Part:
    """One part of a pipeline: a folder in diffusers' layout, or a file's tensors whose names begin with `prefix`."""

    path: Path
    prefix: str = ""

    @property
    def files(self) -> list[Path]:
        """Lists the files that hold its weights."""
        return [self.path] if self.path.is_file() else sorted(self.path.glob("*.safetensors"))


def check_pipeline(spec: FamilySpec, folder: Path, name: str) -> None:
    """Raises WeightsMissing unless a folder is a pipeline of this base model, by its class and its channels."""
    kind = class_of(folder)
    if not spec.pipeline or kind in (spec.pipeline, spec.network):
        return _check_channels(spec, folder, name)
    if not kind:
        raise WeightsMissing(f"{name} is no pipeline of {spec.title}: no {INDEX} says so.", remedy=what_does(spec))
    raise another(spec, name, model_named(kind) or model_named(Path(name).name), kind)


def _check_channels(spec: FamilySpec, folder: Path, name: str) -> None:
    """Fill, Canny and Depth are of the same classes, and take more in."""
    channels = read_json(folder / "transformer" / "config.json").get("in_channels")
    latent = read_json(folder / "vae" / "config.json").get("latent_channels")
    if spec.network and channels and latent and channels != latent * _LATENTS_PER_TOKEN:
        raise another(spec, name, model_named(Path(name).name), f"{spec.network} of {channels} input channels")


def another(spec: FamilySpec, name: str, model: str, kind: str = "") -> WeightsMissing:
    """Makes the error for weights of another model, or of another class of diffusers: what they are, what would do."""
    what = (f"{model} ({kind})" if kind else model) if model else f"a {kind}"
    return WeightsMissing(
        f"{name} holds {what}: another model than {spec.title}, which cannot be used for it.", remedy=what_does(spec)
    )


def is_named(spec: FamilySpec, model: str) -> bool:
    """Tells whether a model is a base model itself or an edition of it."""
    return model in (spec.lora_keys.model, spec.title, *(edition.title for edition in spec.editions))


def model_named(text: str) -> str:
    """Names the model that a repository's, file's or class's name speaks of; empty if it speaks of none."""
    letters = _NO_LETTER.sub("", text).lower()
    own = (spec.title for spec in family_specs() if _NO_LETTER.sub("", spec.title).lower() in letters)
    return named(text) or next(own, "")


def what_does(spec: FamilySpec) -> str:
    """Says which weights can be named for a base model."""
    return (
        f"{spec.readable} Set {spec.setting} to one of those, to auto or to miniature; `tintype weights pull "
        f"{spec.name}` fetches {spec.repository}."
    )


def check_file(spec: FamilySpec, path: Path, entries: Mapping[str, Entry]) -> None:
    """Raises WeightsMissing unless a single file is of this base model, by the names and sizes of its tensors."""
    for ends, what in _PACKED.items():
        if any(key.endswith(ends) for key in entries):
            raise WeightsMissing(f"{path.name} {what}, which is not read here.", remedy=what_does(spec))
    own = spec.lora_keys.model
    model, called = guess(entries) or own, model_named(path.name)
    if model == own and called.startswith(f"{own} "):
        model = called  # Kontext has dev's very tensors: only its name tells
    if not is_named(spec, model):
        raise another(spec, path.name, model)
    known = sum(spec.lora_keys.place_of(key.rpartition(".")[0]) is not None for key in entries)
    if known < len(spec.parts):
        raise WeightsMissing(f"{path.name} holds no layer of {spec.title}.", remedy=what_does(spec))


def check_readable(spec: FamilySpec, parts: Mapping[str, Path], device: str) -> None:
    """Raises WeightsMissing for parts of a folder that have no weights, or some that this device cannot read."""
    for part, path in parts.items():
        if path.is_dir() and not any(path.glob("*.safetensors")):
            raise WeightsMissing(f"{path} has no safetensors files.", remedy=what_does(spec))
        method = quantisation(path)
        if method not in ("", "fp8", "bitsandbytes"):
            raise WeightsMissing(
                f"The {part} is quantised with {method}, which is not read here.", remedy=spec.readable
            )
        if method == "bitsandbytes":
            _check_bitsandbytes(part, device, spec)


def _check_bitsandbytes(part: str, device: str, spec: FamilySpec) -> None:
    if device != "cuda":
        raise WeightsMissing(
            f"The {part} is in bitsandbytes nf4, which runs on NVIDIA GPUs only.", remedy=spec.readable
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise WeightsMissing(
            f"The {part} is in bitsandbytes nf4, and bitsandbytes is not installed.",
            remedy="pip install bitsandbytes, or use bf16 weights.",
        )


def quantisation(part: Path) -> str:
    """Names the method that a folder's weights say they were quantised with; empty for none."""
    settings = read_json(part / "config.json").get("quantization_config") or {}
    return str(settings.get("quant_method", "unknown")) if settings else ""


def read_entries(path: Path) -> dict[str, Entry]:
    """Reads the names, types and sizes of a file's tensors. Raises WeightsMissing for a file that is not sound."""
    if path.suffix == ".gguf":
        return _gguf_entries(path)
    try:
        with path.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size):
                raise ValueError(f"its header claims {length} bytes")
            told = json.loads(source.read(length))
            told.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in told.values()), default=0)
            if path.stat().st_size < 8 + length + end:
                raise ValueError("it ends early: the download or copy was interrupted")
            return {key: Entry(str(entry["dtype"]), tuple(entry["shape"])) for key, entry in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise WeightsMissing(
            f"{path.name} is no sound safetensors file: {problem}.",
            remedy="Copy or download it again; checkpoints that are pickles (.ckpt, .pt) are never opened.",
        ) from None


def _gguf_entries(path: Path) -> dict[str, Entry]:
    if importlib.util.find_spec("gguf") is None:
        raise WeightsMissing(f"{path.name} is a GGUF file.", remedy="pip install 'tintype[gguf]' reads those.")
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(path).tensors
    except (OSError, ValueError, IndexError) as problem:
        raise WeightsMissing(f"{path.name} is no sound GGUF file: {problem}.", remedy="Download it again.") from None
    return {tensor.name: Entry(tensor.tensor_type.name, tuple(map(int, reversed(tensor.shape)))) for tensor in tensors}


def absent_files(folder: Path, parts: Iterable[str]) -> list[str]:
    """Lists what a download has not yet: shards that an index names, or parts without any weights."""
    absent = []
    for part in parts:
        shards: Collection[str] = ()
        for index in (folder / part).glob("*.safetensors.index.json"):
            shards = set(read_json(index).get("weight_map", {}).values())
            absent += sorted(f"{part}/{shard}" for shard in shards if not (folder / part / shard).exists())
        if not shards and not any((folder / part).glob("*.safetensors")):
            absent.append(part)
    return absent


def read_json(path: Path) -> dict[str, Any]:
    """Reads an object from a JSON file; an empty one where there is none, or where it is not sound."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def class_of(folder: Path) -> str:
    """Names the class of diffusers that a folder's index states, else that of its network; empty if none does."""
    places = (INDEX, "transformer/config.json", "unet/config.json", "config.json")
    return next((str(kind) for place in places if (kind := read_json(folder / place).get("_class_name"))), "")
