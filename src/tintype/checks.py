"""Whether everything is here that training needs: one finding each, with what to do where it is not.

`tintype doctor` prints them, and so does a page of the server.
"""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from tintype.devices import chosen_devices, free_bytes, gpus, has_driver, is_cpu_build, lacking_for_compiling
from tintype.errors import TintypeError
from tintype.files import Objects, new_file_id
from tintype.installation import ServerInfo, is_serving
from tintype.jobs.content_filter import describe_filter, filter_installed
from tintype.models.registry import family_specs
from tintype.models.weights import describe, is_miniature, resolve
from tintype.settings import GIB, MIB, Settings

LEAST_MEMORY = 3 * GIB  # what all processes together take on the miniature
LEAST_DISK = 2 * GIB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Where it is not `good`, something does not work; the remedy says what to do."""

    name: str
    good: bool
    what: str
    remedy: str = ""


def _python(_: Settings) -> Finding:
    return Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "Install 3.11+.")


def _libraries(_: Settings) -> Finding:
    wanted = {"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0", "peft": "0.21.2"}
    try:
        found = {name: version(name) for name in wanted}
    except PackageNotFoundError as problem:
        return Finding("libraries", False, f"{problem.name} is not installed", "make setup")
    good = all(found[name].split("+")[0] == exact for name, exact in wanted.items())
    what = ", ".join(f"{name} {number}" for name, number in found.items())
    return Finding("libraries", good, what, "make setup installs the versions that are tested.")


def _gpu(settings: Settings) -> Finding:
    seen, named = gpus(), [] if settings.device == "auto" else chosen_devices(settings.device)
    if is_cpu_build() and has_driver():
        return Finding("GPU", False, "not used", "This torch is a CPU build: reinstall without TORCH_INDEX.")
    if seen.problem:
        remedy = "Update the driver, or install a torch that is built for it; then `tintype doctor` again."
        what = f"not usable by this torch ({seen.toolkit or 'unknown build'}): {seen.problem}"
        return Finding("GPU", False, what, remedy)
    if absent := [name for name in named if name != "cpu" and not any(gpu.id.startswith(name) for gpu in seen.found)]:
        here = ", ".join(["cpu", *(gpu.id for gpu in seen.found)])
        return Finding("GPU", False, f"{', '.join(absent)}: not here", f"Set TINTYPE_DEVICE to one of: auto, {here}.")
    if not seen.found:
        needed = ", ".join(f"{spec.title} one of {spec.needed_gpu() // GIB} GiB" for spec in family_specs())
        return Finding("GPU", True, f"none: the miniatures run on the CPU; needed are for {needed}")
    rows = (
        f"{gpu.id} {gpu.name}, {gpu.memory_bytes // MIB} MiB" + f" (left out: {gpu.why_not})" * bool(gpu.why_not)
        for gpu in seen.found
    )
    rocm = "; nothing here has ever been run on ROCm" if seen.toolkit.startswith("ROCm") else ""
    return Finding("GPU", True, f"{'; '.join(rows)}; torch for {seen.toolkit}{rocm}")


def _compiler(_: Settings) -> Finding:
    if not gpus().used:
        return Finding("compiler", True, "not needed: training compiles for GPUs only")
    lacking = lacking_for_compiling()
    what = f"{lacking}: training is not compiled, and slower" if lacking else "triton, a C compiler, Python's headers"
    return Finding("compiler", not lacking, what, "Install what is missing: trainings of many steps are compiled then.")


def _content_filter(settings: Settings) -> Finding:
    what = describe_filter(settings)
    good = filter_installed() or all(is_miniature(settings, spec.name) for spec in family_specs())
    return Finding("content filter", good, what, "The licences of the real weights ask for one.")


def _memory(_: Settings) -> Finding:
    free = free_bytes()
    remedy = f"Close something: {LEAST_MEMORY // GIB} GiB are needed."
    return Finding("memory", free >= LEAST_MEMORY, f"{free / GIB:.1f} GiB available", remedy)


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    what = f"{free / GIB:.1f} GiB free for {settings.data_dir}"
    return Finding("disk", free >= LEAST_DISK, what, "Free some space.")


def _storage(settings: Settings) -> Finding:
    where = settings.storage_url
    if "://" not in where:
        return Finding("files", True, f"kept in {settings.storage or settings.data_dir / 'files'}")
    key = f"{new_file_id()}/doctor"
    try:
        objects = Objects.open(where)
        objects.put_bytes(key, b"x")
        list(objects.read(key))
        objects.delete(key)
    except TintypeError as problem:
        return Finding("files", False, f"{where}: not usable", problem.message)
    return Finding("files", True, f"kept in {where}")


def check_weights(settings: Settings) -> list[Finding]:
    """Says of each base model which weights a server would use, or why it has none."""
    return [_weights(settings, spec.name) for spec in family_specs()]


def _weights(settings: Settings, family: str) -> Finding:
    try:
        return Finding(f"{family} weights", True, describe(resolve(settings, family)))
    except TintypeError as problem:
        return Finding(f"{family} weights", False, "not usable", problem.message)


def _port(settings: Settings) -> Finding:
    here = ServerInfo.read(settings.data_dir) if is_serving(settings.data_dir) else None
    if here is not None and here.server.endswith(f":{settings.port}"):
        return Finding("port", True, f"tintype serves {settings.data_dir} on {here.server}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as problem:
            remedy = "Something listens there already (perhaps tintype); choose another with `tintype serve --port`."
            return Finding("port", False, f"{settings.host}:{settings.port}: {problem.strerror}", remedy)
    return Finding("port", True, f"{settings.host}:{settings.port} is free")


CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    _python, _libraries, _gpu, _compiler, _content_filter, _memory, _disk, _storage, _port,
)  # fmt: skip


def all_findings(settings: Settings) -> list[Finding]:
    """Looks at everything; takes seconds where torch is asked for its devices or storage is elsewhere."""
    return [*(check(settings) for check in CHECKS), *check_weights(settings)]
