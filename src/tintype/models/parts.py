"""Finds the parts of a base model where people have them: in the hub's cache, in one file, or in ComfyUI's folders.

Other trainers fetch only the folders they need, and ComfyUI keeps each part in a file of its own. What lies somewhere
on this machine is used as it lies there; what is nowhere is named. Importing this costs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from huggingface_hub import constants

from tintype.models.contents import Part, absent_files, class_of, read_entries
from tintype.models.registry import FamilySpec

_ANCESTORS = 3  # of a file, whose folders of other parts are looked into: models/unet/flux/ has models/vae beside it
_TOKENIZER = ("tokenizer.json", "vocab.json", "spiece.model")


def snapshots_of(repository: str) -> tuple[Path, ...]:
    """Lists the local snapshots of a hub repository, the current one first."""
    home = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    heads = [home / "snapshots" / ref.read_text().strip() for ref in sorted(home.glob("refs/main"))]
    return (*heads, *sorted(home.glob("snapshots/*")))


def parts_of_file(spec: FamilySpec, path: Path) -> dict[str, Part]:
    """Finds the parts of a pipeline whose transformer is in this file: in it, beside it, or in the hub's cache."""
    entries = read_entries(path)
    held = {part: Part(path, file.prefix) for part, file in spec.files.items() if file.prefix + file.marker in entries}
    held.setdefault("transformer", Part(path))
    return held | _found(spec, [part for part in needed(spec) if part not in held], (), path)


def parts_of_repository(spec: FamilySpec, repository: str) -> dict[str, Part]:
    """Finds the parts of a pipeline whose transformer is in a repository's snapshots; none without a transformer."""
    own = snapshots_of(repository)
    found = _found(spec, ["transformer"], own, None)
    if found:
        found |= _found(spec, [part for part in needed(spec) if part != "transformer"], own, None)
        if scheduler := next((folder / "scheduler" for folder in own if (folder / "scheduler").is_dir()), None):
            found["scheduler"] = Part(scheduler)
    return found


def needed(spec: FamilySpec) -> list[str]:
    """Lists the parts that a pipeline consists of."""
    return [*spec.files, *spec.tokenizers]


def is_whole(spec: FamilySpec, folder: Path) -> bool:
    """Tells whether a snapshot has all weights and tokenizers."""
    return not absent_files(folder, spec.parts) and all(is_tokenizer(folder / part) for part in spec.tokenizers)


def _found(spec: FamilySpec, parts: Iterable[str], own: Sequence[Path], file: Path | None) -> dict[str, Part]:
    """Those of these parts that lie in the own folders, beside a file, or in the hub's cache."""
    found = {}
    for part in parts:
        cached = () if part == "transformer" else (*own, *_cached_pipelines(spec))
        folders = (place / part for place in (*own, *cached) if _has(spec, place, part))
        alone = (place for place in snapshots_of(spec.tokenizers.get(part, "")) if is_tokenizer(place))
        if path := _file_of(spec, part, file) or next(folders, None) or next(alone, None):
            found[part] = Part(path)
    return found


def is_tokenizer(folder: Path) -> bool:
    """Tells whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in _TOKENIZER)


def _has(spec: FamilySpec, place: Path, part: str) -> bool:
    if part in spec.tokenizers:
        return is_tokenizer(place / part)
    return (place / part / "config.json").is_file() and not absent_files(place, [part])


def _cached_pipelines(spec: FamilySpec) -> Iterator[Path]:
    """Folders of pipelines of this base model in the hub's cache, the base model's own first."""
    yield from snapshots_of(spec.repository)
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*")):
        if class_of(folder) in (spec.pipeline, spec.network):
            yield folder


def _file_of(spec: FamilySpec, part: str, beside: Path | None) -> Path | None:
    """A file of one part alone, the best first: beside another, in ComfyUI's folders, or in the hub's cache."""
    file = spec.files.get(part)
    if file is None or part == "transformer":
        return None
    places = [(place, "") for repository in spec.file_repositories for place in snapshots_of(repository)]
    if beside is not None:
        near = [(place / name, "**/") for place in list(beside.parents)[:_ANCESTORS] for name in file.folders]
        places = [(beside.parent, ""), *near, *places]
    for name in file.names:
        for place, below in places:
            for path in sorted(place.glob(below + name)):
                if path.suffix in (".safetensors", ".sft") and file.marker in read_entries(path):
                    return path
    return None
