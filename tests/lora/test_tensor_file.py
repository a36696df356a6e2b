"""Whatever someone sends as a LoRA, the answer is a sentence."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.torch import save, save_file

from tintype.errors import UnusableAdapter
from tintype.lora.tensor_file import digest_of, open_tensors

GOOD = save({"a.weight": torch.ones(2, 3), "b.alpha": torch.tensor(4.0)}, {"title": "t"})


def raw(header: dict[str, Any] | str, data: bytes = b"", length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def read_all(path: Path) -> None:
    file = open_tensors(path)
    file.load(list(file.entries))


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UnusableAdapter) as caught:
        read_all(path)
    return caught.value.message


def archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as opened:
        opened.writestr("lora.safetensors", GOOD)
    return target.getvalue()


def torch_file(legacy: bool) -> bytes:
    target = io.BytesIO()
    torch.save({"a": torch.ones(2)}, target, _use_new_zipfile_serialization=not legacy)
    return target.getvalue()


def test_a_sound_file_is_read_and_only_what_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(GOOD)
    file = open_tensors(tmp_path / "a")
    assert dict(file.header) == {"title": "t"}
    assert {key: entry.shape for key, entry in file.entries.items()} == {"a.weight": (2, 3), "b.alpha": ()}
    assert set(file.load(["a.weight"])) == {"a.weight"}
    assert len(digest_of(tmp_path / "a")) == 64


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (archive(), "a ZIP archive"),
        (torch_file(legacy=False), "pickle"),
        (torch_file(legacy=True), "pickle"),
        (pickle.dumps({"a": 1}), "pickle"),
        (gzip.compress(b"x"), "gzip"),
        (b"\n<!DOCTYPE html><html>Please sign in", "web page"),
        (b'{"detail": "not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "picture"),
        (b"GGUF" + b"\0" * 40, "GGUF"),
        (b"hello world", "something else"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_safetensors_is_called_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refused(tmp_path / "a.safetensors", content)


F32 = tensor("F32", [2], 0, 8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (raw("{not json at all"), "damaged"),
        (raw({"a": tensor("F32", [2], 0, 800)}, b"\0" * 8), "damaged"),
        (raw({"a": tensor("F32", [2], 4, 12)}, b"\0" * 12), "damaged"),
        (raw({"a": tensor("F32", [2], 8, 0)}, b"\0" * 8), "damaged"),
        (raw({"a": tensor("F32", [2], -8, 0)}, b"\0" * 8), "damaged"),
        (raw({"a": F32, "b": F32}, b"\0" * 8), "damaged"),
        (raw({"a": tensor("F32", [2**62, 2**62], 0, 8)}, b"\0" * 8), "damaged"),
        (raw({"a": tensor("F32", [3], 0, 8)}, b"\0" * 8), "damaged"),
        (raw({"a": tensor("X99", [2], 0, 8)}, b"\0" * 8), "damaged"),
        (raw({"a": F32, "__metadata__": {"a": 1}}, b"\0" * 8), "damaged"),
        (raw('{"a": %s, "a": %s}' % ((json.dumps(F32),) * 2), b"\0" * 8), "twice"),
        (raw('{"a": ' + "[" * 100_000), "damaged"),
        (raw({"a": F32}, b"\0" * 4), "damaged"),
        (raw({"a": F32}, b"\0" * 80), "damaged"),
        (raw({"a": F32}, b"\0" * 8, length=2**40), "header claims"),
        (raw({"a": F32}, b"\0" * 8, length=2**63), "header claims"),
        (raw({"a": tensor("I64", [2], 0, 16)}, b"\0" * 16), "not floating point"),
        (raw({"a": tensor("BOOL", [8], 0, 8)}, b"\0" * 8), "not floating point"),
        (GOOD[:-4], "damaged"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refused(tmp_path / "a", content)


@given(data=st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutation_of_a_file_causes_anything_but_a_refusal(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(GOOD)
    header = 8 + int.from_bytes(GOOD[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        kind = data.draw(st.sampled_from(["set", "drop", "insert", "cut"]))
        if kind == "set":
            content[min(place, len(content) - 1)] = data.draw(st.integers(0, 255))
        elif kind == "drop":
            del content[place : place + data.draw(st.integers(1, 30))]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=30))
        else:
            del content[place:]
        content = content or bytearray(b"x")
    path = tmp_path / "mutated"
    path.write_bytes(content)
    with contextlib.suppress(UnusableAdapter):
        read_all(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_every_floating_point_type_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.tensor([[0.5, -2.0]]).to(dtype)}, tmp_path / "a")
    file = open_tensors(tmp_path / "a")
    read = file.load(["a"])["a"]
    assert read.tolist() == [[0.5, -2.0]]
    assert math.isclose((read @ read.T).item(), 4.25)
