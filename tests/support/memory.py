"""How much larger a web process is, at most, while it takes a large request."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.processes import command
from tests.support.server import PORTRAIT_TRAINER, Server


def growth_of_web(server: Server, *, megabytes: int) -> int:
    """By how many kB the web process is larger, at most, while it takes a request with such a data URI."""
    [web] = [child for child in psutil.Process(server.pid).children(recursive=True) if is_web(child)]
    status = Path(f"/proc/{web.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc, to see the peak of another process's memory")
    with server.http() as http:
        http.post(
            f"/queue/{PORTRAIT_TRAINER}", json={"images_data_url": "data:application/zip;base64," + "AAAA" * 500_000}
        )
        Path(f"/proc/{web.pid}/clear_refs").write_text("5")  # the peak is counted from here
        before = kilobytes(status, "VmHWM")
        body = (b"A" * 1_000_000 for _ in range(megabytes))
        head, tail = b'{"images_data_url": "data:application/zip;base64,', b'"}'
        submitted = http.post(f"/queue/{PORTRAIT_TRAINER}", content=iter([head, *body, tail]))
        grown = kilobytes(status, "VmHWM") - before
        assert submitted.status_code == 200, submitted.text
        http.put(submitted.json()["cancel_url"])
    return grown


def is_web(process: psutil.Process) -> bool:
    return "tintype.web" in command(process)


def kilobytes(status: Path, name: str) -> int:
    [line] = [line for line in status.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])
