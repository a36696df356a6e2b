"""Which base model is used, decided without torch and without downloading anything.

`auto` takes the real weights only where a GPU that fits them and the weights themselves are already here; else the
miniature, which every installation carries. The control half prints the decision and the compute half acts on it, so
both ask here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tintype.devices import gpu_bytes, untried
from tintype.errors import WeightsMissing
from tintype.lora.keys import some
from tintype.models.contents import (
    INDEX,
    Part,
    absent_files,
    another,
    check_file,
    check_pipeline,
    class_of,
    is_named,
    model_named,
    quantisation,
    read_entries,
    read_json,
    what_does,
)
from tintype.models.licence import Licence, licence_text
from tintype.models.parts import is_tokenizer, is_whole, needed, parts_of_file, parts_of_repository, snapshots_of
from tintype.models.registry import Edition, FamilySpec, family_spec
from tintype.settings import GIB, REHEARSAL, Settings

MINIATURE_LICENCE = Licence(
    name="Apache-2.0, like tintype",
    address="https://www.apache.org/licenses/LICENSE-2.0",
    weights="trained by this project on drawings made by its own code; they, and LoRAs made from them, may be used for "
    "any purpose.",
    images="may be used for any purpose.",
)
# The precisions in which matrices are rounded as they are read, and how many bits a number then takes, with its scale.
ROUNDED = {"fp8": 8.0, "nf4": 4.25}
_FILES = (".safetensors", ".sft", ".gguf")
_GUIDANCE = "guidance"  # in the names of layers of a network that is told it
_MINIATURE = Path(__file__).parent / "miniature" / "weights"


@dataclass(frozen=True)
class BaseWeights:
    """A base model's folder in diffusers' layout, and why it was chosen."""

    family: str  # as FamilySpec names it
    folder: Path
    source: str  # hub id, folder, or "miniature"
    why: str
    traits: Mapping[str, Any] = field(default_factory=dict)  # of miniature.json; empty for a real model
    parts: Mapping[str, Part] = field(default_factory=dict)  # those that lie elsewhere
    precision: str = "stored"  # fp8, nf4: the transformer's matrices are rounded so as they are read; auto: undecided
    precision_why: str = ""
    quantised_dir: Path | None = None  # where they are kept so

    @property
    def miniature(self) -> bool:
        return bool(self.traits)

    @property
    def packed(self) -> bool:
        """Tells whether the transformer's matrices are rounded in its files, and stay so."""
        path = self.part("transformer").path
        return path.suffix == ".gguf" or quantisation(path) == "bitsandbytes"

    @property
    def fingerprint(self) -> str:
        """Changes when the weights do: names, sizes and times of the files, which is cheap even for 34 GB."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        named = [(str(path.relative_to(self.folder)), path) for path in files]
        named += [(name, path) for name, part in sorted(self.parts.items()) for path in part.files]
        seen = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in named]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def part(self, name: str) -> Part:
        """Returns where a part lies."""
        return self.parts.get(name, Part(self.folder / name))

    def part_bytes(self) -> dict[str, int]:
        """Counts the bytes of each part's weights in the files."""
        sizes: dict[str, int] = {}
        counted: set[Path] = set()  # a file may hold several
        for name in family_spec(self.family).parts:
            files = set(self.part(name).files) - counted
            sizes[name] = sum(path.stat().st_size for path in files)
            counted |= files
        return sizes

    @cached_property
    def edition(self) -> Edition | None:
        """Which published model it is, where it is not the base model itself."""
        path = self.part("transformer").path
        configuration = read_json(path / "config.json")
        if path.is_file():
            configuration = {"guidance_embeds": any(_GUIDANCE in key for key in read_entries(path))}
        editions = () if self.miniature else family_spec(self.family).editions
        return next((edition for edition in editions if edition.is_of(self.name, configuration)), None)

    @property
    def own_traits(self) -> Mapping[str, Any]:
        """How its edition generates."""
        return self.edition.traits if self.edition else {}

    @property
    def title(self) -> str:
        """What images say they were made with: the published model, never the name of a folder or of a repository."""
        title = self.edition.title if self.edition else family_spec(self.family).title
        return f"miniature of {title}" if self.miniature else title

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
        spec = family_spec(self.family)
        own = (spec.repository, *(downloads[0].repository for downloads in spec.forms.values()))
        return _is_hub_id(self.source) and self.source not in own

    @property
    def published_licence(self) -> Licence:
        """Returns the licence of the published model that these weights are, or are made from."""
        if self.miniature:
            return MINIATURE_LICENCE
        return self.edition.licence if self.edition else family_spec(self.family).licence

    @property
    def licence(self) -> str:
        stated = self.published_licence
        if not self._is_fine_tune:
            return str(stated)
        title = family_spec(self.family).title
        return f"That of https://huggingface.co/{self.source}; of what is made from {title}: {stated}"

    @property
    def notice(self) -> str:
        """What goes along with a LoRA trained on these weights, for whoever gets it."""
        licence = self.published_licence
        further = f"\nThe weights are {self.source}, whose own terms hold too.\n" if self._is_fine_tune else ""
        return (
            f"This LoRA was trained on {self.title}, and is a derivative of it.\n{further}"
            f"It is under the licence of that model: {licence.title}\n{licence.address}\n"
            "Its text lies beside this file as LICENSE, where it came with the weights.\n\n"
            f"The weights, and LoRAs: {licence.weights}\nImages made with them: {licence.images}\n\n"
            "The last two lines are a summary; the text of the licence is what counts.\n"
        )

    @property
    def licence_text(self) -> Path | None:
        """Finds the text of the licence where it came with the weights."""
        return licence_text(self.folder)

    @property
    def _is_fine_tune(self) -> bool:
        return not self.miniature and self.edition is None and self._unknown

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
    chosen = _chosen(settings, family_spec(family))
    precision, why = settings.precision, "TINTYPE_PRECISION asks for it"
    if chosen.packed:
        precision, why = "stored", "its files are packed already"
    elif precision == "auto" and chosen.miniature:
        precision, why = "stored", "a miniature fits"
    return replace(chosen, precision=precision, precision_why=why, quantised_dir=settings.quantised_dir)


def _chosen(settings: Settings, spec: FamilySpec) -> BaseWeights:
    asked = settings.bases[spec.name]
    if asked == "miniature":
        return _miniature(spec, f"{spec.setting} asks for it")
    if asked == REHEARSAL:
        return _miniature(spec, "this is a rehearsal")
    if asked == "auto":
        return _automatic(settings, spec)
    path = Path(asked).expanduser()
    if path.exists() or not _is_hub_id(asked):
        return _named_path(spec, path, asked)
    return _named_repository(spec, asked)


def _named_path(spec: FamilySpec, folder: Path, asked: str) -> BaseWeights:
    if folder.is_file():
        return _named_file(spec, folder.absolute())  # not what a link in the hub's cache leads to, which has no name
    if not folder.exists():
        raise WeightsMissing(f"There is no file or folder {asked}.", remedy=what_does(spec))
    if not (folder / INDEX).is_file():
        files = sorted(path.name for path in folder.glob("*") if path.suffix in _FILES)
        hint = f"Name the file itself: {folder / files[0]}." if files and spec.layout else what_does(spec)
        raise WeightsMissing(f"{asked} is no folder of a diffusers pipeline ({INDEX} is missing).", remedy=hint)
    check_pipeline(spec, folder, asked)
    place = folder.resolve()
    return BaseWeights(spec.name, place, str(place), f"{spec.setting} names this folder", _traits(folder))


def _named_file(spec: FamilySpec, path: Path) -> BaseWeights:
    if path.suffix not in _FILES:
        raise WeightsMissing(f"{path.name} is no safetensors or GGUF file.", remedy=what_does(spec))
    check_file(spec, path, read_entries(path))
    if spec.layout is None:
        raise WeightsMissing(f"{path.name} is a single file, one part of six.", remedy=what_does(spec))
    parts = parts_of_file(spec, path)
    hints = {part: file.names[0] for part, file in spec.files.items()} | dict(spec.tokenizers)
    if absent := [f"{part} ({hints[part]})" for part in needed(spec) if part not in parts]:
        raise WeightsMissing(
            f"{path.name} is one of several parts; nowhere on this machine are: {', '.join(absent)}.",
            remedy=f"`tintype weights pull {spec.name} --form parts` fetches all but the transformer; or put them "
            "beside the file or where ComfyUI keeps them.",
        )
    return BaseWeights(spec.name, spec.layout, str(path), f"{spec.setting} names this file", parts=parts)


def _named_repository(spec: FamilySpec, asked: str) -> BaseWeights:
    cached = cached_snapshot(spec, asked)
    if cached is not None:
        check_pipeline(spec, cached, asked)
        return BaseWeights(spec.name, cached, asked, f"{spec.setting} names it", _traits(cached))
    begun = next((folder for folder in snapshots_of(asked) if folder.is_dir()), None)
    if begun is not None and class_of(begun):
        check_pipeline(spec, begun, asked)
    elif (model := model_named(asked)) and not is_named(spec, model):
        raise another(spec, asked, model)
    parts = parts_of_repository(spec, asked) if spec.layout else {}
    if spec.layout and parts.keys() >= set(needed(spec)):
        return BaseWeights(spec.name, spec.layout, asked, f"{spec.setting} names it", parts=parts)
    files = [path for path in begun.glob("*") if path.suffix in _FILES] if begun is not None and not parts else []
    if spec.layout and len(files) == 1 and not class_of(files[0].parent):
        return replace(_named_file(spec, files[0]), why=f"{spec.setting} names its repository")
    form = next((form for form, downloads in spec.forms.items() if downloads[0].repository == asked), None)
    option = "" if asked == spec.repository else f" --form {form}" if form else f" --repository {asked}"
    pull = f"tintype weights pull {spec.name}{option}"
    if begun is None:
        raise WeightsMissing(
            f"The weights of {asked} are not on this machine.",
            remedy=f"Fetch them with `{pull}`, or set {spec.setting}=miniature.",
        )
    wanted = needed(spec) if spec.layout else [INDEX, *spec.parts]
    absent = [name for part in wanted if part not in parts for name in _absent(spec, begun, part)]
    raise WeightsMissing(
        f"The weights of {asked} are not on this machine as a whole; missing are {some(absent)}.",
        remedy=f"`{pull}` fetches what is missing.",
    )


def _absent(spec: FamilySpec, folder: Path, part: str) -> list[str]:
    """What a folder lacks of a part: shards, or all of it."""
    if part in spec.parts:
        return absent_files(folder, [part])
    here = is_tokenizer(folder / part) if part in spec.tokenizers else (folder / part).exists()
    return [] if here else [part]


def _is_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and not source.endswith(_FILES)


def is_miniature(settings: Settings, family: str) -> bool:
    """Tells whether jobs will use the built-in miniature; real weights that are not here count as real."""
    try:
        return resolve(settings, family).miniature
    except WeightsMissing:
        return False


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
        f"{spec.needed_gpu() // GIB} GiB or more, then {spec.setting}=auto"
    )


def cached_snapshot(spec: FamilySpec, repository: str = "") -> Path | None:
    """Finds the complete local snapshot of a base model, or None; looks on the disk only."""
    found = snapshots_of(repository or spec.repository)
    return next((folder for folder in found if (folder / INDEX).is_file() and is_whole(spec, folder)), None)


def _automatic(settings: Settings, spec: FamilySpec) -> BaseWeights:
    if settings.device == "cpu":
        return _miniature(spec, "TINTYPE_DEVICE is cpu")
    memory = gpu_bytes(settings.device)
    if memory is None:
        return _miniature(spec, untried(settings.device) or "no GPU that this torch can use")
    needed = spec.needed_gpu(settings.precision)
    if memory < needed:
        why = f"the GPU has {memory / GIB:.0f} GiB; {spec.title} needs {needed // GIB} GiB"
        return _miniature(spec, why)
    try:
        found = _named_repository(spec, spec.repository)
    except WeightsMissing:
        return _miniature(spec, f"a GPU fits, but the weights of {spec.repository} are not here")
    return replace(found, why="its weights and a GPU that fits them are here")


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
