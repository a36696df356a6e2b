"""Which devices this machine computes on, found without torch: the launcher and the supervisor never import it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess

QUERY = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
QUERY_SECONDS = 10.0


def devices(setting: str) -> list[str]:
    """The devices that get a supervisor: those named (`cuda:0,cuda:1`), or with `auto` every GPU, else the CPU."""
    if setting != "auto":
        return [name.strip() for name in setting.split(",") if name.strip()]
    gpus = _visible_gpus() if _torch_knows_gpus() else 0
    return [f"cuda:{number}" for number in range(gpus)] or ["cpu"]


def _torch_knows_gpus() -> bool:
    """A CPU build of torch cannot use the GPU that is there."""
    try:
        return not importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def _visible_gpus() -> int:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
    if shutil.which(QUERY[0]) is None:
        return 0
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer is no device to count on
        return 0
    return len(answer.stdout.split()) if answer.returncode == 0 else 0
