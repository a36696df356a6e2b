"""Devices are found without torch."""

from __future__ import annotations

import ctypes
import importlib.metadata
import stat
from pathlib import Path
from typing import Any

import psutil
import pytest

from tintype.devices import EnergyMeter, chosen_devices, free_bytes, gpu_bytes, gpus, torch_device


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


class Driver:
    """NVIDIA's library as far as it counts energy: GPU n has taken n + 1 thousand joules."""

    def __init__(self, name: str) -> None:
        assert name == "libnvidia-ml.so.1"

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: ctypes.c_uint, handle: Any) -> int:
        handle._obj.value = number.value + 1
        return 0 if number.value < 2 else 2

    def nvmlDeviceGetHandleByUUID(self, name: bytes, handle: Any) -> int:
        handle._obj.value = 9
        return 0 if name.startswith(b"GPU-") else 2

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, millijoules: Any) -> int:
        millijoules._obj.value = (handle.value or 0) * 1_000_000
        return 0


@pytest.mark.parametrize(
    ("visible", "device", "joules"),
    [
        (None, "cuda", 1000.0),
        (None, "cuda:1", 2000.0),
        (None, "cuda:7", None),
        ("1", "cuda:0", 2000.0),
        ("GPU-1234", "cuda:0", 9000.0),
        ("MIG-1234", "cuda:0", None),
        ("1", "cuda:1", None),
        ("", "cuda:0", None),
        (None, "cpu", None),
    ],
)
def test_energy_is_that_of_the_gpu_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, joules: float | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert EnergyMeter(device).joules() == joules


def test_without_a_driver_energy_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert EnergyMeter("cuda:0").joules() is None
