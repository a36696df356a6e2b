"""Devices are what torch says they are, asked in a child; the children here print what it says on such machines."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tintype import devices
from tintype.checks import CHECKS
from tintype.devices import EnergyMeter, chosen_devices, free_bytes, gpu_bytes, gpus, torch_device
from tintype.errors import SettingsError
from tintype.settings import GIB, load_settings

Machine = Callable[..., None]
H100 = ("cuda:0", "NVIDIA H100 80GB HBM3", 79, "sm_90")
BUILT = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver."


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Makes torch's child answer as on a machine with these devices."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130")
    monkeypatch.setenv(devices._ANSWER, "")  # so that it is taken away again
    said = tmp_path / "said"

    def answer(*rows: tuple[str, str, float, str], toolkit: str = "CUDA 13.0", problem: str = "") -> None:
        found = [{"id": id, "name": name, "memory": int(size * GIB), "arch": arch} for id, name, size, arch in rows]
        archs = BUILT if toolkit.startswith("CUDA") else ["gfx942", "gfx1100"]
        said.write_text(json.dumps({"devices": found, "problem": problem, "archs": archs, "toolkit": toolkit}))
        monkeypatch.delenv(devices._ANSWER, raising=False)
        monkeypatch.setattr(devices, "_ASK", ("cat", str(said)))

    return answer


def doctor(device: str = "auto", name: str = "_gpu") -> tuple[bool, str]:
    check = next(check for check in CHECKS if check.__name__ == name)
    found = check(load_settings(device=device))
    return found.good, f"{found.what} {found.remedy}"


def test_every_gpu_gets_a_supervisor_and_the_smallest_decides(machine: Machine) -> None:
    machine(H100, ("cuda:1", "NVIDIA A100", 39.4, "sm_80"))
    assert chosen_devices("auto") == ["cuda:0"], "half as much is too little"
    machine(H100, ("cuda:1", "NVIDIA A100", 79.3, "sm_80"), ("cuda:2", "NVIDIA RTX A6000", 47.5, "sm_86"))
    assert chosen_devices("auto") == ["cuda:0", "cuda:1", "cuda:2"]
    assert gpu_bytes() == int(47.5 * GIB)
    assert gpu_bytes("cuda:1") == int(79.3 * GIB)
    assert gpu_bytes("cuda") == 79 * GIB
    assert gpu_bytes("cpu") is None


def test_a_small_card_beside_a_large_one_is_left_out_and_can_be_named(machine: Machine) -> None:
    machine(("cuda:0", "NVIDIA T400", 3.8, "sm_75"), ("cuda:1", "NVIDIA RTX PRO 6000", 95, "sm_120"))
    assert chosen_devices("auto") == ["cuda:1"]
    assert chosen_devices("cuda:0") == ["cuda:0"]
    good, said = doctor()
    assert good
    assert "T400, 3891 MiB (left out: less than half" in said


def test_a_mig_slice_counts_with_its_own_memory(machine: Machine) -> None:
    machine(("cuda:0", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", 39.5, "sm_90"))
    assert (chosen_devices("auto"), gpu_bytes()) == (["cuda:0"], int(39.5 * GIB))
    assert "MIG 3g.40gb" in doctor()[1]


def test_a_card_that_this_torch_has_no_code_for_is_left_out(machine: Machine) -> None:
    machine(("cuda:0", "Tesla P40", 24, "sm_61"), ("cuda:1", "Tesla V100", 32, "sm_70"))
    assert chosen_devices("auto") == ["cpu"]
    assert "no code for sm_61" in doctor()[1]
    machine(("cuda:0", "NVIDIA L4", 22, "sm_89"), ("cuda:1", "to come", 22, "sm_130"))
    assert chosen_devices("auto") == ["cuda:0", "cuda:1"], "by the same major, and by PTX"


def test_a_driver_that_is_too_old_is_said_and_the_cpu_computes(machine: Machine) -> None:
    machine(problem=TOO_OLD)
    assert (chosen_devices("auto"), gpu_bytes()) == (["cpu"], None)
    good, said = doctor()
    assert not good
    assert "too old (found version 12040)" in said
    assert "CUDA 13.0" in said
    assert "Update the driver" in said


@pytest.mark.parametrize("said", ["Found no NVIDIA driver on your system.", "No CUDA GPUs are available"])
def test_no_gpu_is_no_problem(machine: Machine, said: str) -> None:
    machine(problem=said)
    assert chosen_devices("auto") == ["cpu"]
    assert doctor()[0]


def test_rocm_is_used_and_what_is_untried_is_said(machine: Machine) -> None:
    machine(("cuda:0", "AMD Radeon RX 7900 XTX", 24, "gfx1100"), ("cuda:1", "AMD", 24, "gfx90a"), toolkit="ROCm 7.0")
    assert chosen_devices("auto") == ["cuda:0"]
    assert "ever been run on ROCm" in doctor()[1]


@pytest.mark.parametrize(("device", "maker"), [("mps", "Apple"), ("xpu:0", "Intel")])
def test_other_gpus_are_taken_by_name_only(machine: Machine, device: str, maker: str) -> None:
    machine((device, f"{maker} GPU", 36, ""), toolkit="")
    assert chosen_devices("auto") == ["cpu"]
    assert chosen_devices(device) == [device]
    good, said = doctor(device)
    assert good
    assert maker in said
    assert "ever been run" in said
    assert gpu_bytes(device) is None, "no real weights without being asked for them"


def test_a_device_that_is_not_here_is_named_by_doctor(machine: Machine) -> None:
    machine(H100)
    good, said = doctor("cuda:1")
    assert not good
    assert "auto, cpu, cuda:0" in said
    assert doctor("cuda")[0]
    with pytest.raises(SettingsError, match="gpu0 is no device"):
        chosen_devices("cuda:0, gpu0")


def test_torch_is_asked_once_and_later_processes_inherit_the_answer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H100)
    assert chosen_devices("auto") == ["cuda:0"]
    monkeypatch.setattr(devices, "_ASK", ("false",))
    assert chosen_devices("auto") == ["cuda:0"]
    assert json.loads(os.environ[devices._ANSWER])["devices"][0]["name"] == H100[1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("sh", "-c", "echo 'ImportError: libcudart.so.13' >&2; exit 1"), "libcudart.so.13"),
        (("echo", "no JSON"), "not understood: no JSON"),
        (("true",), "it said nothing"),
    ],
)
def test_a_torch_that_fails_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], said: str
) -> None:
    machine(H100)
    monkeypatch.setattr(devices, "_ASK", command)
    assert chosen_devices("auto") == ["cpu"]
    assert said in gpus().problem


def test_the_child_asks_torch_for_just_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130")
    monkeypatch.setenv(devices._ANSWER, "")
    monkeypatch.delenv(devices._ANSWER)
    assert devices._ASK[0] == sys.executable
    found = gpus()
    assert [(gpu.id, gpu.name, gpu.memory_bytes, gpu.arch) for gpu in found.found] == [
        ("cuda:0", "card 0", 1000, "sm_90"),
        ("cuda:1", "card 1", 2000, "sm_90"),
    ]
    assert (found.toolkit, found.problem) == ("CUDA 13.0", "")
    (tmp_path / "torch.py").write_text(TORCH.replace("is_available = lambda: True", "is_available = lambda: False"))
    monkeypatch.delenv(devices._ANSWER)
    assert gpus() == devices.Gpus(problem="too old", toolkit="CUDA 13.0")


TORCH = """
from types import SimpleNamespace as N
def init():
    raise RuntimeError("too old")
version = N(cuda="13.0", hip=None)
cuda = N(device_count=lambda: 2, get_arch_list=lambda: ["sm_90"], init=init,
         get_device_properties=lambda n: N(name=f"card {n}", total_memory=1000 * (n + 1), major=9, minor=0))
cuda.is_available = lambda: True
backends = N(mps=N(is_available=lambda: False))
"""


def test_a_cpu_build_of_torch_computes_on_the_cpu_and_a_driver_beside_it_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu")
    monkeypatch.setattr(devices, "_ASK", ("false",))
    assert chosen_devices("auto") == ["cpu"]
    assert gpus() == devices.Gpus()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    good, said = doctor()
    assert not good
    assert "CPU build" in said


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


def test_a_gpu_without_a_compiler_is_said_and_a_cpu_needs_none(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    assert doctor(name="_compiler") == (True, "not needed: training compiles for GPUs only ")
    machine(H100)
    gpus()
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    good, said = doctor(name="_compiler")
    assert not good
    assert "no C compiler is here; install gcc: training is not compiled, and slower" in said
