"""Which devices this machine computes on, and how much memory they have.

torch itself is asked, since it decides: in a short child, so that the control half never imports it, and once, since
that takes seconds; processes that are started later inherit the answer.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tintype.errors import SettingsError

if TYPE_CHECKING:
    import torch

_KINDS = {"cpu": "", "cuda": "", "mps": "Apple's GPUs (mps)", "xpu": "Intel's GPUs (xpu)"}
_SMALL = 0.5  # of the largest GPU's memory: what is below drives a screen, and would only lose requests
_ANSWER = "_TINTYPE_GPUS"  # where processes that are started later find it
_ASK_SECONDS = 120.0
_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import torch
found, problem, archs = [], "", []
def look(kind, module):
    for number in range(module.device_count()):
        about = module.get_device_properties(number)
        arch = getattr(about, "gcnArchName", "") or f"sm_{getattr(about, 'major', 0)}{getattr(about, 'minor', 0)}"
        found.append({"id": f"{kind}:{number}", "name": about.name, "memory": about.total_memory, "arch": arch})
try:
    if torch.cuda.is_available():
        archs = torch.cuda.get_arch_list()
        look("cuda", torch.cuda)
    elif torch.version.cuda or torch.version.hip:
        torch.cuda.init()
except Exception as error:
    problem = str(error)
if hasattr(torch, "xpu") and torch.xpu.is_available():
    look("xpu", torch.xpu)
if torch.backends.mps.is_available():
    found.append({"id": "mps", "name": "Apple GPU", "memory": torch.mps.recommended_max_memory(), "arch": ""})
toolkit = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}" * bool(torch.version.cuda)
print(json.dumps({"devices": found, "problem": problem, "archs": archs, "toolkit": toolkit}))
"""
_ASK = (sys.executable, "-c", _PROBE)


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch describes it; `why_not` says why it is left out where none is named."""

    id: str
    name: str
    memory_bytes: int
    arch: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Gpus:
    """What torch said of this machine's GPUs, and what kept it from using them."""

    found: tuple[Gpu, ...] = ()
    problem: str = ""
    toolkit: str = ""  # what this torch was built for

    @property
    def used(self) -> list[Gpu]:
        """Lists those that are taken where none is named."""
        return [gpu for gpu in self.found if not gpu.why_not]


def chosen_devices(setting: str) -> list[str]:
    """Returns the devices that get a supervisor: the named ones, or with `auto` every GPU that is of use, else the CPU.

    Raises SettingsError for a name that is none.
    """
    if setting == "auto":
        return [gpu.id for gpu in gpus().used] or ["cpu"]
    named = [name.strip() for name in setting.split(",") if name.strip()]
    for name in named:
        if not re.fullmatch(rf"({'|'.join(_KINDS)})(:\d+)?", name):
            raise SettingsError(
                f"{name} is no device.", remedy="Set TINTYPE_DEVICE to auto, cpu, cuda, cuda:1, mps or xpu."
            )
    return named


def untried(device: str) -> str:
    """Says what is not known of a kind of device; empty for those that are."""
    kind = _KINDS.get(device.partition(":")[0], "")
    return f"{kind}: nothing here has ever been run on one; name it (TINTYPE_DEVICE={device}) to try." if kind else ""


def gpus() -> Gpus:
    """Asks torch for the GPUs, or reads what it answered before."""
    if is_cpu_build():
        return Gpus()
    if _ANSWER not in os.environ:
        os.environ[_ANSWER] = _asked()
    try:
        return _judged(json.loads(os.environ[_ANSWER]))
    except (ValueError, KeyError, TypeError):
        return Gpus(problem=f"torch's answer is not understood: {os.environ[_ANSWER][-200:]}")


def is_cpu_build() -> bool:
    """Tells whether this torch can use no GPU at all, or is not installed."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


def has_driver() -> bool:
    """Tells whether a driver of NVIDIA's seems to be installed."""
    return shutil.which("nvidia-smi") is not None


def _asked() -> str:
    try:
        told = subprocess.run(_ASK, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return json.dumps({"devices": [], "problem": "torch does not answer: a driver may hang"})
    lines = (told.stdout if told.returncode == 0 else told.stderr).strip().splitlines() or ["it said nothing"]
    return lines[-1] if told.returncode == 0 else json.dumps({"devices": [], "problem": f"torch fails: {lines[-1]}"})


def _judged(answer: dict[str, Any]) -> Gpus:
    devices, problem = answer["devices"], answer.get("problem", "")
    if "no NVIDIA driver" in problem or "No CUDA GPUs" in problem or "No HIP GPUs" in problem:
        problem = ""  # none is here, or none is to be seen
    known = [row for row in devices if not _KINDS[row["id"].partition(":")[0]]]
    largest = max((row["memory"] for row in known if _has_kernels(row["arch"], answer.get("archs", []))), default=0)
    found = []
    for row in devices:
        why = untried(row["id"])
        if not why and not _has_kernels(row["arch"], answer.get("archs", [])):
            why = f"this torch has no code for {row['arch']}"
        elif not why and row["memory"] < _SMALL * largest:
            why = "less than half of the largest one's memory; TINTYPE_DEVICE can name it"
        found.append(Gpu(row["id"], row["name"], int(row["memory"]), row["arch"], why))
    return Gpus(tuple(found), problem, answer.get("toolkit", ""))


def _has_kernels(arch: str, archs: list[str]) -> bool:
    """Whether a build for these architectures runs on one: the same major with no higher minor, or PTX of an older."""
    if not archs or not arch.startswith("sm_"):
        return not archs or arch.partition(":")[0] in archs
    card = int(arch[3:])
    for built in archs:
        kind, _, number = built.partition("_")
        version = int(re.sub(r"\D", "", number) or 0)
        if version <= card and (kind == "compute" or version // 10 == card // 10):
            return True
    return False


def gpu_bytes(setting: str = "auto") -> int | None:
    """Returns the memory of the smallest GPU that is chosen, or None where there is none that torch can use."""
    chosen = chosen_devices(setting)
    known = {gpu.id: gpu.memory_bytes for gpu in gpus().found if not untried(gpu.id)}
    sizes = [known.get(name if ":" in name else f"{name}:0") for name in chosen]
    return min((size for size in sizes if size), default=None)


def lacking_for_compiling() -> str:
    """Names what torch needs to compile for a GPU and is not here, with what to do; empty where all is."""
    if importlib.util.find_spec("triton") is None:
        return "triton is missing; the torch for GPUs brings it along"
    if not any(map(shutil.which, filter(None, (os.environ.get("CC"), "gcc", "clang")))):
        return "no C compiler is here; install gcc"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "Python's headers are missing; install python3-dev, or another Python that has them"
    return ""


def torch_device(setting: str) -> torch.device:
    """Returns torch's device of a setting; auto means the first GPU of use, else the CPU."""
    import torch

    return torch.device(chosen_devices("auto")[0] if setting == "auto" else setting)


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Returns the memory that can be had on a device now; a GPU's reserve of torch's counts as free."""
    kind = str(device).partition(":")[0]
    if kind not in ("cuda", "xpu"):
        return int(psutil.virtual_memory().available)
    import torch

    module: Any = getattr(torch, kind)
    free, _ = module.mem_get_info(device)
    return int(free) + int(module.memory_reserved(device)) - int(module.memory_allocated(device))


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
