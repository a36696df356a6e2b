"""Rounded weights are kept: the next start reads them alone, changed or damaged ones are made anew, and they go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from tintype.files.quantised import remove_unused
from tintype.models import layouts
from tintype.models.contents import Part
from tintype.models.flux import FAMILY
from tintype.models.layouts import read_network
from tintype.models.weights import resolve
from tintype.settings import MIB, load_settings

CPU = torch.device("cpu")
DAY = 86400.0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "transformer"
    shutil.copytree(resolve(load_settings(flux_base="miniature")).folder / "transformer", folder)
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "quantised"


def read(source: Path, kept: Path, precision: str = "nf4") -> dict[str, torch.Tensor]:
    network = read_network(
        FluxTransformer2DModel, FAMILY, Part(source), CPU, torch.float32, precision=precision, quantised_dir=kept
    )
    found: dict[str, torch.Tensor] = network.state_dict()
    return found


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["fp8", "nf4"])
def test_the_next_start_reads_what_was_rounded_and_nothing_else(
    precision: str, source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(source, kept, precision)
    (file,) = kept.iterdir()
    assert file.stat().st_size < (source / "diffusion_pytorch_model.safetensors").stat().st_size

    def none(*args: Any, **options: Any) -> Any:
        yield from ()

    monkeypatch.setattr(layouts, "diffusers_tensors", none)
    assert_same(read(source, kept, precision), first)


def test_other_weights_and_other_precisions_have_files_of_their_own(source: Path, kept: Path) -> None:
    read(source, kept)
    read(source, kept, "fp8")
    assert len(list(kept.iterdir())) == 2
    weights = source / "diffusion_pytorch_model.safetensors"
    os.utime(weights, (0, weights.stat().st_mtime + 1))
    read(source, kept)
    assert len(list(kept.iterdir())) == 3
    assert remove_unused(kept) == 2, "of weights that are no longer there"
    assert remove_unused(kept) == 0
    weights.unlink()
    assert remove_unused(kept) == 1


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)


def swap_for_another(file: Path) -> None:
    shutil.copy(resolve(load_settings(flux_base="miniature")).folder / "vae/diffusion_pytorch_model.safetensors", file)


@pytest.mark.parametrize("damage", [cut, flip, swap_for_another, lambda file: file.write_bytes(b"")])
def test_a_damaged_file_is_made_anew(
    damage: Callable[[Path], Any], source: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read(source, kept)
    first = {name: tensor.clone() for name, tensor in first.items()}
    (file,) = kept.iterdir()
    damage(file)
    assert_same(read(source, kept), first)
    assert "damaged" in caplog.text
    caplog.clear()
    assert_same(read(source, kept), first)
    assert not caplog.text


def test_where_nothing_can_be_kept_it_is_rounded_all_the_same(
    source: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.write_text("a file in the folder's place")
    assert read(source, kept)
    assert "not kept" in caplog.text


def test_what_nobody_reads_for_a_month_goes_and_what_was_never_finished_after_a_day(source: Path, kept: Path) -> None:
    read(source, kept)
    (file,) = kept.iterdir()
    unfinished = kept / "x-1.new"
    unfinished.touch()
    assert remove_unused(kept) == 0
    os.utime(unfinished, (0, time.time() - 2 * DAY))
    os.utime(file, (0, time.time() - 29 * DAY))
    assert remove_unused(kept) == 1
    read(source, kept)
    assert file.stat().st_mtime > time.time() - DAY, "reading it counts"
    os.utime(file, (0, time.time() - 31 * DAY))
    assert remove_unused(kept) == 1
    assert not list(kept.iterdir())


_CONFIG = {
    "in_channels": 16, "num_layers": 7, "num_single_layers": 1, "attention_head_dim": 128, "num_attention_heads": 16,
    "joint_attention_dim": 64, "pooled_projection_dim": 64, "axes_dims_rope": [16, 56, 56],
}  # fmt: skip
_MEASURE = """
import sys, torch
from pathlib import Path
from diffusers import FluxTransformer2DModel
from tests.support.memory import kilobytes
from tintype.models.contents import Part
from tintype.models.flux import FAMILY
from tintype.models.layouts import read_network
status, source, kept = Path("/proc/self/status"), Part(Path(sys.argv[1])), Path(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes(status, "VmRSS")
network = read_network(
    FluxTransformer2DModel, FAMILY, source, torch.device("cpu"), torch.bfloat16, precision="nf4", quantised_dir=kept
)
packed = sum(tensor.nbytes for tensor in network.state_dict().values())
print(kilobytes(status, "VmHWM") - before, packed // 1024)
"""


def write_shards(folder: Path, shard_bytes: int) -> list[Path]:
    """A network of random numbers in bf16, in files of so many bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel", **_CONFIG}))
    with torch.device("meta"):
        names = FluxTransformer2DModel.from_config(_CONFIG).state_dict()
    numbers = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    shard: dict[str, torch.Tensor] = {}
    files: list[Path] = []
    for number, (name, tensor) in enumerate(names.items()):
        values = numbers.repeat(-(-tensor.numel() // len(numbers)))[: tensor.numel()]
        shard[name] = values.view(tensor.shape).clone()
        if sum(one.nbytes for one in shard.values()) > shard_bytes or number == len(names) - 1:
            files.append(folder / f"diffusion_pytorch_model-{len(files)}.safetensors")
            save_file(shard, files[-1])
            shard = {}
    return files


@pytest.mark.long
def test_reading_two_gigabytes_takes_less_than_a_shard_beside_what_is_packed(tmp_path: Path) -> None:
    """Of the process that reads, rounds and keeps them; the next one takes what is packed."""
    files = write_shards(tmp_path / "transformer", 400 * MIB)
    assert len(files) >= 5
    assert sum(file.stat().st_size for file in files) >= 2e9
    shard = max(file.stat().st_size for file in files) // 1024
    taken = []
    for _ in range(2):
        told = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(tmp_path / "transformer"), str(tmp_path / "quantised")],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        peak, packed = map(int, told.split())
        taken.append(peak - packed)
    print(
        f"packed {packed // 1024} MiB, largest shard {shard // 1024} MiB; beside it {[kb // 1024 for kb in taken]} MiB"
    )
    assert taken[0] <= shard
    assert taken[1] <= shard // 4
