"""What `tintype serve` does: says where, with which model and key, then keeps its processes alive until stopped."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
from contextlib import ExitStack

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from tintype import installation
from tintype.cli.keys import first_key
from tintype.devices import chosen_devices
from tintype.errors import SettingsError
from tintype.files import Objects
from tintype.models.weights import summary
from tintype.processes import set_up_log
from tintype.settings import BASE_MODELS, Settings
from tintype.store import Store
from tintype.worker.launcher import PREDECESSOR_SECONDS, LocalLauncher, listen

ENDPOINTS = "tintype.catalog:ENDPOINTS"


def serve(settings: Settings, *, endpoints: str = ENDPOINTS, while_in_use: bool = False) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit status. `endpoints` is `module:NAME` of what workers serve.

    With `while_in_use` also until no program that `tintype run` started is left.

    Raises SettingsError when the address cannot be listened on, or nothing can be kept where data or files shall be.
    """
    settings.make_data_dir()
    Objects.open(settings.storage_url)
    _refuse_second(settings)
    with ExitStack() as held:
        listener = held.enter_context(listen(settings.host, settings.port))
        set_up_log()
        host, port = listener.getsockname()[:2]
        settings = settings.model_copy(update={"host": host, "port": port, "data_dir": settings.data_dir.resolve()})
        tls = None if settings.tls_port is None else held.enter_context(listen(settings.host, settings.tls_port))
        _introduce(settings, _origin(settings))
        if tls is not None:
            _introduce_tls(settings, tls.getsockname()[1])
        detour = held.enter_context(installation.opened(settings.data_dir, _address(settings), tls, auth=settings.auth))
        if while_in_use:
            if detour is None:
                raise SettingsError(f"Another tintype already serves {settings.data_dir}.")
            installation.stop_when_unused(settings.data_dir, detour, lambda: os.kill(os.getpid(), signal.SIGINT))
        return asyncio.run(_launch(settings, listener, detour, endpoints))


def _refuse_second(settings: Settings) -> None:
    """Supervisors hold these locks and refuse by themselves; asked here first, the answer comes before the banner."""
    for device in chosen_devices(settings.device):
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


async def _launch(
    settings: Settings, listener: socket.socket, detour: installation.Sockets | None, endpoints: str
) -> int:
    return await LocalLauncher(settings, listener, endpoints, detour=detour).run()


def _origin(settings: Settings) -> str:
    """Where a person on this machine reaches the server."""
    return settings.public_url.rstrip("/") if settings.public_url else f"http://{_address(settings)}"


def _address(settings: Settings) -> str:
    """host:port by which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def _introduce(settings: Settings, origin: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]tintype[/] serves at [bold link={origin}]{origin}[/]")
    console.print(f"  data     {escape(str(settings.data_dir))}")
    console.print(f"  devices  {', '.join(chosen_devices(settings.device))}")
    for family in BASE_MODELS:
        console.print(f"  model    {escape(summary(settings, family))}")
    if settings.auth == "off":
        console.print("  key      none is asked for (--auth off)")
    elif asyncio.run(_first_key(settings)) is None:
        console.print("  key      yours: `tintype keys list`; a new one: `tintype keys create --name NAME`")
    else:
        path = escape(shlex.quote(str(settings.data_dir / "key")))
        console.print(f"  key      in {path}: export FAL_KEY=$(cat {path})")
    console.print('  programs written for fal: tintype run -- COMMAND, or eval "$(tintype env)"')
    console.print(
        "  Ctrl-C stops; queued work stays queued and running training goes on from its checkpoint next time."
    )


def _introduce_tls(settings: Settings, port: int) -> None:
    """The line to paste for fal's Python client, which speaks TLS only."""
    from tintype.fal_proxy.certificates import Authority  # cryptography is for those who need it

    roots = Authority.of(settings.data_dir).bundle(os.environ)
    host = f"{_address(settings).rpartition(':')[0]}:{port}"
    Console(highlight=False, soft_wrap=True).print(
        f"  TLS      export FAL_RUN_HOST={host}/run FAL_QUEUE_RUN_HOST={host}/queue "
        f"SSL_CERT_FILE={escape(shlex.quote(str(roots)))}"
    )


async def _first_key(settings: Settings) -> str | None:
    store = await Store.open(settings.database_url, lease_seconds=settings.lease_seconds)
    try:
        return await first_key(store, settings)
    finally:
        await store.close()
