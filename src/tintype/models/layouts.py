"""Reads networks in the layouts people have: diffusers' names or the original code's, in bf16, nf4, fp8 or GGUF.

diffusers reads its own names and bitsandbytes' nf4. The original layouts fuse q, k and v, and fp8 files may keep a
scale beside each matrix, which diffusers would load as plain numbers; both are turned into a network of plain numbers
here, or of rounded ones, one tensor after another. Layers are renamed by the key table that LoRA files are read with.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, GGUFQuantizationConfig
from diffusers.models.model_loading_utils import load_gguf_checkpoint
from safetensors import safe_open

from tintype.errors import WeightsMissing
from tintype.lora.keys import LoraKeys, some
from tintype.models.contents import Part, quantisation, read_entries, read_json
from tintype.models.quantised import prepare, rounded_for
from tintype.models.quantised_file import QuantisedFile
from tintype.models.registry import FamilySpec
from tintype.models.weights import ROUNDED

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "conditional_transformer.", "transformer.")
_SCALE_NAMES = (".weight_scale", ".scale_weight", ".weight_scale_inv")
_STRAYS = (
    ".input_scale",
    ".scale_input",
    "scaled_fp8",
    ".comfy_quant",
)  # of other programs; weights do not depend on them
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
# What files of text encoders hold beside the encoder.
_NO_ENCODER = ("logit_scale", "text_projection.weight", "text_model.embeddings.position_ids", "spiece_model")

Tensors = Mapping[str, torch.Tensor]
#: Makes a network's configuration from its tensors' sizes, by diffusers' names.
Configure = Callable[[Tensors], dict[str, Any]]


def read_network(
    kind: Any,
    spec: FamilySpec,
    part: Part,
    device: torch.device,
    dtype: torch.dtype,
    configure: Configure | None = None,
    *,
    precision: str = "stored",
    quantised_dir: Path | None = None,
) -> Any:
    """Reads a frozen network onto the device; `configure` is for files, which state no configuration.

    In a `precision` of fp8 or nf4 matrices are rounded one after another, so that never more than one is there whole,
    and kept in `quantised_dir` for the next time; a packed network stays as it is. Raises WeightsMissing for files in a
    layout that is not known.
    """
    if quantisation(part.path) == "bitsandbytes":
        network = kind.from_pretrained(part.path, dtype=dtype, device_map={"": device})
    elif part.path.suffix == ".gguf":
        network = _from_gguf(kind, spec, part, device, dtype, configure)
    elif precision not in ROUNDED and part.path.is_dir() and _plain(part, spec.lora_keys):
        network = kind.from_pretrained(part.path, dtype=dtype, local_files_only=True).to(device)
    else:
        tensors: Iterable[tuple[str, torch.Tensor]] = diffusers_tensors(part, spec, dtype, device)
        config = configuration_of(part, spec, configure)
        with torch.device("meta"):
            network = kind.from_config(config)
        kept = found = None
        if precision in ROUNDED:
            prepare(network, precision, dtype, device)
            tensors = rounded_for(network, tensors)
            kept = QuantisedFile(quantised_dir, part, precision, str(dtype), kind.__name__) if quantised_dir else None
            found = kept.read(network.state_dict(), device) if kept else None
        if found is None:
            found = dict(tensors)
            _check_same(part, spec.title, network.state_dict(), found, spec.readable)
            if kept:
                kept.write(found)
        network.load_state_dict(found, assign=True)
    return network.eval().requires_grad_(False)


def configuration_of(part: Part, spec: FamilySpec, configure: Configure | None) -> dict[str, Any]:
    """Says how a network is built, its tensors unread."""
    if part.path.is_dir():
        return _configuration(part, spec, {}, configure)
    shapes = ((key, torch.empty(entry.shape, device="meta")) for key, entry in read_entries(part.path).items())
    named = (
        (_plain_name(key.removeprefix(part.prefix)), tensor) for key, tensor in shapes if key.startswith(part.prefix)
    )
    own = ((name, tensor) for name, tensor in named if not _is_stray(name))
    return _configuration(part, spec, dict(_renamed(own, spec.lora_keys)), configure)


def _configuration(part: Part, spec: FamilySpec, found: Tensors, configure: Configure | None) -> dict[str, Any]:
    config = read_json(part.path / "config.json")
    config.pop("quantization_config", None)
    try:
        return config or (configure(found) if configure else {})
    except KeyError as absent:
        raise WeightsMissing(
            f"The tensors in {part.path.name} are not those of {spec.title}: lack: {absent.args[0]}.",
            remedy=spec.readable,
        ) from None


def _plain(part: Part, keys: LoraKeys) -> bool:
    """Whether diffusers reads these files as they are: its own names, no eight-bit numbers."""
    for path in part.files:
        for key, entry in read_entries(path).items():
            if entry.dtype.startswith("F8") or _plain_name(key) != key:
                return False
            place = keys.place_of(key.rpartition(".")[0])
            if place is not None and place.layers != (key.rpartition(".")[0],):
                return False
    return True


def _check_same(part: Part, title: str, wanted: Tensors, found: Tensors, remedy: str) -> None:
    """Raises WeightsMissing unless exactly the wanted tensors were found, each in its shape."""
    wrong = (name for name in wanted if name in found and found[name].shape != wanted[name].shape)
    problems: tuple[tuple[str, Iterable[str]], ...] = (
        ("lack", wanted.keys() - found.keys()),
        ("do not belong there", found.keys() - wanted.keys()),
        ("have another shape", wrong),
    )
    for problem, names in problems:
        if named := sorted(names):
            raise WeightsMissing(
                f"The tensors in {part.path.name} are not those of {title}: {problem}: {some(named)}.", remedy=remedy
            )


def diffusers_tensors(
    part: Part, spec: FamilySpec, dtype: torch.dtype, device: torch.device | str = "cpu", *, only: tuple[str, ...] = ()
) -> Iterator[tuple[str, torch.Tensor]]:
    """Reads the weights of a part's files under diffusers' names, in `dtype`; eight-bit ones times their scales."""
    for path in part.files:
        file = Part(path, part.prefix)
        # What is read so goes with its tensor; of what is mapped a file's pages stay while one of its tensors does.
        yield from _renamed(file_tensors(file, spec, dtype, device, only=only, backend="pread"), spec.lora_keys)


def file_tensors(
    part: Part,
    spec: FamilySpec,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    only: tuple[str, ...] = (),
    backend: str = "mmap",
) -> Iterator[tuple[str, torch.Tensor]]:
    """Reads a part's tensors from one file under the names that they have there, without prefix."""
    with safe_open(part.path, framework="pt", device=str(device), backend=backend) as opened:
        named = (key for key in opened.keys() if key.startswith(part.prefix))  # noqa: SIM118
        keys = {_plain_name(key.removeprefix(part.prefix)): key for key in named}
        bare = spec.bare_fp8 and not any(name.endswith(_SCALE_NAMES) for name in keys)
        for name, key in keys.items():
            if not _is_stray(name) and (not only or name in only):
                weight = opened.get_tensor(key)
                yield name, (weight if bare else _scaled(name, weight, keys, opened, spec)).to(dtype)


def read_autoencoder(part: Part, folder: Path, spec: FamilySpec, dtype: torch.dtype) -> Any:
    """Reads FLUX's autoencoder from a folder, or from a file in the original names; `folder` has its configuration."""
    if part.path.is_dir():
        return AutoencoderKL.from_pretrained(part.path, dtype=dtype, local_files_only=True)
    found = dict(file_tensors(part, spec, dtype))
    network = AutoencoderKL.from_single_file(
        found, config=str(folder), subfolder="vae", dtype=dtype, local_files_only=True
    )
    if absent := [name for name, tensor in network.state_dict().items() if tensor.is_meta]:
        raise WeightsMissing(
            f"{part.path.name} is not FLUX's autoencoder: it lacks {some(absent)}.", remedy=spec.readable
        )
    return network


def read_text_encoder(kind: Any, part: Part, folder: Path, spec: FamilySpec, dtype: torch.dtype) -> Any:
    """Reads a text encoder from a folder, or from a file; `folder` has its configuration."""
    if part.path.is_dir():
        return kind.from_pretrained(part.path, dtype=dtype, local_files_only=True)
    found = {name: tensor for name, tensor in file_tensors(part, spec, dtype) if name not in _NO_ENCODER}
    config = kind.config_class.from_pretrained(folder)
    network, told = kind.from_pretrained(None, config=config, state_dict=found, dtype=dtype, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, told[problem])):
            raise WeightsMissing(
                f"{part.path.name} is not {spec.title}'s {kind.__name__}: {problem.replace('_', ' ')} {some(names)}.",
                remedy=spec.readable,
            )
    return network


def _from_gguf(
    kind: Any, spec: FamilySpec, part: Part, device: torch.device, dtype: torch.dtype, configure: Configure | None
) -> Any:
    """A network whose matrices stay packed as they are in a GGUF file, unpacked layer by layer where they are used."""
    read = ((_plain_name(key), weight) for key, weight in load_gguf_checkpoint(str(part.path)).items())
    found = dict(_renamed(read, spec.lora_keys))
    config = configuration_of(part, spec, configure) if configure else {}
    with torch.device("meta"):
        wanted = kind.from_config(config).state_dict()
    _check_same(
        part, spec.title, wanted, {name: wanted.get(name, tensor) for name, tensor in found.items()}, spec.readable
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(
            json.dumps({"_class_name": kind.__name__, **config}), encoding="utf-8"
        )
        packed = GGUFQuantizationConfig(compute_dtype=dtype)
        return kind.from_single_file(
            found, config=folder, quantization_config=packed, dtype=dtype, device=device, local_files_only=True
        )


def _is_stray(name: str) -> bool:
    """Whether a tensor belongs to a packing rather than to the network."""
    return name.endswith((*_SCALE_NAMES, *_STRAYS)) or name.startswith("scaled_fp8")


def _plain_name(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _scaled(name: str, weight: torch.Tensor, keys: Mapping[str, str], opened: Any, spec: FamilySpec) -> torch.Tensor:
    if weight.dtype not in _EIGHT_BITS:
        return weight
    stem = name.removesuffix(".weight")
    for scale_name in (*(stem + suffix for suffix in _SCALE_NAMES), f"{name}_scale"):
        if scale_name in keys:
            scale = opened.get_tensor(keys[scale_name]).float()
            # One number for the matrix, or one for each row of outputs.
            exact: torch.Tensor = weight.float() * (scale if scale.numel() == 1 else scale.reshape(-1, 1))
            return exact
    raise WeightsMissing(f"{name} is in fp8 without a scale.", remedy=spec.readable)


def _renamed(tensors: Iterable[tuple[str, torch.Tensor]], keys: LoraKeys) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of the original code's names, or of diffusers', as diffusers has them: fused ones in their parts."""
    for name, weight in tensors:
        stem, _, what = name.rpartition(".")
        place = keys.place_of(stem)
        if place is None:
            yield name, weight
            continue
        what = "weight" if what == "scale" else what  # what the original code calls a norm's
        if place.swapped:
            weight = torch.cat(list(reversed(weight.chunk(2))))
        widths = keys.outputs(place.layers, 1)
        whole = weight.shape[0] // sum(widths)
        pieces = [weight] if len(widths) == 1 else torch.split(weight, [whole * width for width in widths])
        for layer, piece in zip(place.layers, pieces, strict=True):
            yield f"{layer}.{what}", piece.contiguous()
