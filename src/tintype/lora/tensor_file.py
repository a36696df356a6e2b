"""Writes safetensors files, opens those that a stranger sent, and says what is wrong with one if something is.

A pickle runs code when it is opened, so nothing but safetensors is ever parsed. The library checks offsets and sizes;
what is added here is that a header may not say two things at once, that only the tensors asked for are read, and that
whoever sent a web page, a ZIP or a pickle by mistake is told so.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tintype.errors import UnusableAdapter
from tintype.files.disk import writing
from tintype.lora.keys import REMEDY, Entry, shown

_LONGEST_HEADER = 16 * 1024 * 1024  # bytes; a LoRA of every layer of FLUX needs 250 kB
_LONGEST_REMARK = 200  # characters of a library's complaint that are passed on
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
_WHOLE = {"I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"}
_EIGHT_BITS = {torch.float8_e4m3fn, torch.float8_e5m2}
# What files that are no safetensors begin with.
_BEGINNINGS = (
    (b"PK", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"GGUF", "a GGUF file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to"),
    (b"<", "a web page; the address may need a login, or is that of a page about the file"),
    (b"{", "JSON"),
)


def write_tensors(tensors: dict[str, torch.Tensor], path: Path, header: dict[str, str] | None = None) -> None:
    """Writes a safetensors file that is there whole or not at all. Raises StorageFull."""
    fresh = path.with_suffix(".new")
    try:
        with writing(path.parent, sum(tensor.nbytes for tensor in tensors.values())):
            save_file(tensors, fresh, metadata=header)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header was read."""

    path: Path
    header: Mapping[str, str]
    entries: Mapping[str, Entry]

    def load(self, keys: Collection[str]) -> dict[str, torch.Tensor]:
        """Loads these tensors, eight-bit floats widened.

        Raises UnusableAdapter for what is neither floating point nor a single whole number.
        """
        for key in keys:
            entry = self.entries[key]
            single = entry.dtype in _WHOLE and math.prod(entry.shape) == 1
            if entry.dtype not in _FLOATS and not single:
                raise unusable(f"{shown(key)} holds {entry.dtype}, not floating point.")
        try:
            with safe_open(self.path, framework="pt") as opened:
                loaded = {key: opened.get_tensor(key) for key in keys}
        except (SafetensorError, OSError, ValueError) as problem:
            raise unusable(f"The safetensors file is damaged ({_remark(problem)}).") from None
        return {key: one.bfloat16() if one.dtype in _EIGHT_BITS else one for key, one in loaded.items()}

    def silent(self, keys: Collection[str]) -> set[str]:
        """Finds those of these tensors that are zero throughout."""
        return {key for key, tensor in self.load(keys).items() if not tensor.any()}


def unusable(message: str, remedy: str = REMEDY) -> UnusableAdapter:
    """Makes the error for a file that no base model could use."""
    return UnusableAdapter(message, remedy=remedy)


def digest_of(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes: the identity of a LoRA."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def open_tensors(path: Path) -> TensorFile:
    """Reads the header. Raises UnusableAdapter for anything that is not sound safetensors."""
    with path.open("rb") as source:
        first = source.read(1024)
        length = int.from_bytes(first[:8], "little")
        # A safetensors file: eight bytes of header length, then JSON.
        if first[8:9] != b"{":
            raise unusable(f"Only safetensors files are opened; this one is {_named(first)}.")
        if length > _LONGEST_HEADER:
            raise unusable(f"The safetensors file is damaged (its header claims {length} bytes).")
        source.seek(8)
        text = source.read(length)
    try:
        with safe_open(path, framework="pt") as opened:
            header = dict(opened.metadata() or {})
        told = json.loads(text, object_pairs_hook=_once)
    except (SafetensorError, OSError, ValueError, RecursionError) as problem:
        raise unusable(f"The safetensors file is damaged ({_remark(problem)}).") from None
    told.pop("__metadata__", None)
    entries = {key: Entry(str(told[key]["dtype"]), tuple(told[key]["shape"])) for key in told}
    return TensorFile(path, header, entries)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that says everything once; of two values, readers would not agree on which counts."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("its header names a tensor twice")
    return read


def _named(first: bytes) -> str:
    """What a file is whose first bytes are these."""
    if not first:
        return "empty"
    entry = first[30 : 30 + int.from_bytes(first[26:28], "little")]
    pickled_zip = first[:4] == b"PK\x03\x04" and entry.endswith(b"data.pkl")  # torch.save's first entry
    if pickled_zip or (first[0] == 0x80 and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "a PyTorch pickle, which could run code; save it again with safetensors"
    return next((said for start, said in _BEGINNINGS if first.lstrip().startswith(start)), "something else")


def _remark(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:_LONGEST_REMARK]
