"""What `tintype serve` does: says where, with which model and key, then keeps its processes alive until stopped."""

from __future__ import annotations

import asyncio
import shlex
import socket
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from tintype.cli.keys import first_key
from tintype.errors import SettingsError, TintypeError
from tintype.families.weights import Family, describe, resolve
from tintype.queue import Queue
from tintype.settings import Settings
from tintype.worker.devices import devices
from tintype.worker.journal import keep_journal
from tintype.worker.launcher import PREDECESSOR_SECONDS, LocalLauncher, listen

ENDPOINTS = "tintype.catalog:ENDPOINTS"


def serve(settings: Settings, *, endpoints: str = ENDPOINTS) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit status. `endpoints` is `module:NAME` of what workers serve.

    Raises SettingsError when the address cannot be listened on, or the data folder cannot be written to.
    """
    _make_folder(settings.data_dir)
    _refuse_second(settings)
    with listen(settings.host, settings.port) as listener:
        keep_journal()
        host, port = listener.getsockname()[:2]
        settings = settings.model_copy(update={"host": host, "port": port, "data_dir": settings.data_dir.resolve()})
        _introduce(settings, _origin(settings))
        return asyncio.run(_launch(settings, listener, endpoints))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "locks").mkdir(exist_ok=True)  # also where the folder is there but may not be written to
    except OSError as problem:
        raise SettingsError(
            f"Cannot keep data in {folder}: {problem.strerror}.", remedy="Choose another folder with --data-dir."
        ) from None


def _refuse_second(settings: Settings) -> None:
    """Supervisors hold these locks and refuse by themselves; asked here first, the answer comes before the banner."""
    for device in devices(settings.device):
        lock = FileLock(settings.data_dir / "locks" / f"{device.replace(':', '-')}.lock")
        try:
            # The supervisor of a serve that was killed just now takes a moment to go.
            with lock.acquire(timeout=PREDECESSOR_SECONDS):
                continue
        except Timeout:
            raise SettingsError(
                f"Another tintype already works on {device} with {settings.data_dir}.",
                remedy="Stop it, or start this one with another --data-dir.",
            ) from None


async def _launch(settings: Settings, listener: socket.socket, endpoints: str) -> int:
    return await LocalLauncher(settings, listener, endpoints).run()


def _origin(settings: Settings) -> str:
    """Where a person on this machine reaches the server."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _introduce(settings: Settings, origin: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]tintype[/] serves at [bold link={origin}]{origin}[/]")
    console.print(f"  data     {escape(str(settings.data_dir))}")
    console.print(f"  devices  {', '.join(devices(settings.device))}")
    for family in get_args(Family):
        console.print(f"  model    {escape(_base_model(settings, family))}")
    if settings.auth == "off":
        console.print("  key      none is asked for (--auth off)")
    elif asyncio.run(_first_key(settings)) is None:
        console.print("  key      yours: `tintype keys list`; a new one: `tintype keys create --name NAME`")
    else:
        path = escape(shlex.quote(str(settings.data_dir / "key")))
        console.print(f"  key      in {path}: export FAL_KEY=$(cat {path})")
    console.print(
        "  Ctrl-C stops; queued work stays queued and running training goes on from its checkpoint next time."
    )


def _base_model(settings: Settings, family: Family) -> str:
    """Which base is used and how to get the other; weights that are missing stop their requests, not the server."""
    try:
        return describe(resolve(settings, family))
    except TintypeError as problem:
        return problem.message


async def _first_key(settings: Settings) -> str | None:
    queue = await Queue.open(settings.database_url, lease_seconds=settings.lease_seconds)
    try:
        return await first_key(queue, settings)
    finally:
        await queue.close()
