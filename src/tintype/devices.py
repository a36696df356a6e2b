"""Which devices this machine computes on, and how much memory they have.

The control half asks the NVIDIA driver and never imports torch; the compute half asks torch, imported when it does.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

_QUERY = ("nvidia-smi", "--query-gpu=memory.total,driver_version,name", "--format=csv,noheader,nounits")
_QUERY_SECONDS = 20.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it."""

    memory_bytes: int
    driver: str
    name: str


def chosen_devices(setting: str) -> list[str]:
    """Returns the devices that get a supervisor: the named ones, or with `auto` every GPU, else the CPU."""
    if setting != "auto":
        return [name.strip() for name in setting.split(",") if name.strip()]
    return [f"cuda:{number}" for number in range(_visible_gpus())] or ["cpu"]


def gpus() -> list[Gpu]:
    """Returns every GPU that the driver knows, none where there is no driver. Raises OSError for one that fails."""
    if shutil.which(_QUERY[0]) is None:
        return []
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise OSError("nvidia-smi does not answer") from None
    if answer.returncode != 0:
        raise OSError(answer.stderr.strip() or answer.stdout.strip() or "nvidia-smi fails without a message")
    rows = (line.split(", ", 2) for line in answer.stdout.splitlines() if line.strip())
    return [Gpu(int(memory) * _MIB if memory.isdigit() else 0, driver, name) for memory, driver, name in rows]


@functools.cache
def gpu_bytes() -> int | None:
    """Returns the memory of the largest GPU, or None: no driver, no GPU, or a torch that cannot use it."""
    if not _visible_gpus():
        return None
    try:
        return max((gpu.memory_bytes for gpu in gpus()), default=None)
    except OSError:
        return None


def torch_device(setting: str) -> torch.device:
    """Returns torch's device of a setting; auto means the first GPU, else the CPU."""
    import torch

    if setting != "auto":
        return torch.device(setting)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Returns the memory that can be had on a device now; a GPU's reserve of torch's counts as free."""
    if str(device).partition(":")[0] != "cuda":
        return int(psutil.virtual_memory().available)
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class EnergyMeter:
    """Reads how much energy a device has taken, from the counter that the NVIDIA driver keeps of each GPU.

    A GPU that several work on at once counts for each of them.
    """

    def __init__(self, device: str) -> None:
        self._handle: ctypes.c_void_p | None = None
        kind, _, number = device.partition(":")
        if kind != "cuda":
            return
        try:
            self._driver = ctypes.CDLL("libnvidia-ml.so.1")
            self._handle = _gpu_handle(self._driver, int(number or 0))
        except (OSError, AttributeError, ValueError, IndexError):  # no driver, or one without the counter
            return

    def joules(self) -> float | None:
        """Returns those since the driver was loaded; None where the device does not tell."""
        if self._handle is None:
            return None
        millijoules = ctypes.c_ulonglong()
        failed = self._driver.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1000


def _gpu_handle(driver: ctypes.CDLL, number: int) -> ctypes.c_void_p | None:
    """Finds the GPU that is the `number`th of those that are visible; the driver numbers all of them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    name = str(number) if visible is None else visible.split(",")[number].strip()
    handle = ctypes.c_void_p()
    if driver.nvmlInit_v2():
        return None
    if name.isdigit():
        failed = driver.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(handle))
    else:
        failed = driver.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
    return None if failed else handle


def _visible_gpus() -> int:
    """Counts the GPUs that torch can use: a CPU build sees none, and CUDA_VISIBLE_DEVICES hides some."""
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return 0
    except importlib.metadata.PackageNotFoundError:
        return 0
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
    try:
        return len(gpus())
    except OSError:  # a driver that does not answer is no device to count on
        return 0
