"""Devices are found without torch."""

from __future__ import annotations

import importlib.metadata
import stat
from pathlib import Path

import psutil
import pytest

from tintype.devices import chosen_devices, free_bytes, gpu_bytes, gpus, torch_device


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that answers as a machine with two GPUs does, and a torch that could use them."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '81559, 575.51, NVIDIA H100 80GB HBM3'\necho '[N/A], 575.51, Thor'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130")
    gpu_bytes.cache_clear()


@pytest.mark.usefixtures("two_gpus")
def test_every_gpu_gets_a_supervisor() -> None:
    assert chosen_devices("auto") == ["cuda:0", "cuda:1"]


@pytest.mark.usefixtures("two_gpus")
def test_hidden_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert chosen_devices("auto") == ["cuda:0"]  # torch counts only what it may see
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert chosen_devices("auto") == ["cpu"]


@pytest.mark.usefixtures("two_gpus")
def test_a_cpu_build_of_torch_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert chosen_devices("auto") == ["cpu"]


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_described_by_their_driver() -> None:
    assert [(gpu.name, gpu.memory_bytes // 2**20, gpu.driver) for gpu in gpus()] == [
        ("NVIDIA H100 80GB HBM3", 81559, "575.51"),
        ("Thor", 0, "575.51"),  # shares the machine's memory, and says of no size
    ]
    assert gpu_bytes() == 81559 * 2**20


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_that_fails_says_why_and_counts_as_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'driver/library version mismatch' >&2\nexit 18\n")
    with pytest.raises(OSError, match="version mismatch"):
        gpus()
    assert chosen_devices("auto") == ["cpu"]
    assert gpu_bytes() is None


def test_a_machine_without_a_driver_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []


def test_the_cpu_has_the_memory_of_the_machine() -> None:
    assert 0 < free_bytes(torch_device("cpu")) <= psutil.virtual_memory().total


def test_named_devices_are_taken_at_their_word() -> None:
    assert chosen_devices("cpu") == ["cpu"]
    assert chosen_devices("cuda:1, cuda:3") == ["cuda:1", "cuda:3"]
