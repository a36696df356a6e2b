"""`tintype serve`: says where, with which models and key, then keeps its processes alive until stopped.

The process itself does as little as possible, so that it is the last to fall over: no torch, no web, no requests. It
holds the listening socket, so the port survives a restart of the web process and connections wait meanwhile. It holds
the lifeline, so that nothing outlives it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from typing import Annotated, Literal

import structlog
import typer
from rich.console import Console
from rich.markup import escape

from tintype import catalog
from tintype.cli.data import DataDir, run_with_store
from tintype.cli.keys import first_key
from tintype.devices import chosen_devices
from tintype.errors import SettingsError
from tintype.files import Objects
from tintype.installation import (
    ProxySockets,
    close_to_others,
    device_lock,
    key_file,
    make_data_dir,
    open_proxy_sockets,
    serve_log,
    stop_when_unused,
)
from tintype.jobs.content_filter import describe_filter
from tintype.models.weights import summary
from tintype.processes import Lifeline, set_up_log, shorten_log
from tintype.settings import BASE_MODELS, Settings, load_settings
from tintype.sign_in import sign_in_url
from tintype.worker.launcher import LAUNCHERS, LaunchPlan, environment, new_launcher
from tintype.worker.managed_process import ManagedProcess

ENDPOINTS = "tintype.catalog:ENDPOINTS"
BACKLOG = 1024
PREDECESSOR_SECONDS = 2.0  # for the processes of a serve that was killed to let go of port and devices
LOG_SECONDS = 60.0  # between looks at the length of the log that `tintype run` lets this write
EXIT_SECONDS = 10.0  # for the web process and the fal proxy to end by themselves


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1).", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (default 8787; 0 picks one).", show_default=False)
    ] = None,
    tls_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="A second port, behind TLS, which FAL_RUN_HOST needs.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    public_url: Annotated[str | None, typer.Option(help="Origin that clients see behind a proxy.")] = None,
    database: Annotated[str | None, typer.Option(help="postgresql://… instead of SQLite.")] = None,
    storage: Annotated[str | None, typer.Option(help="s3://bucket/prefix or a folder.")] = None,
    auth: Annotated[Literal["on", "off"] | None, typer.Option(help="Whether a key is asked for.")] = None,
    launcher: Annotated[str, typer.Option(help=f"Who starts supervisors: {', '.join(LAUNCHERS)}.")] = "local",
    while_in_use: Annotated[bool, typer.Option("--while-in-use", hidden=True)] = False,
) -> None:
    """Serve the HTTP API here, with a supervisor for each device. Ctrl-C drains: nothing that was accepted is lost.

    Example: [bold]tintype serve --port 8787 --data-dir ./tintype-data[/]
    """
    settings = load_settings(
        host=host,
        port=port,
        tls_port=tls_port,
        data_dir=data_dir,
        public_url=public_url,
        database=database,
        storage=storage,
        auth=auth,
    )
    raise typer.Exit(run_server(settings, launcher=launcher, while_in_use=while_in_use))


def run_server(
    settings: Settings, *, endpoints: str = ENDPOINTS, launcher: str = "local", while_in_use: bool = False
) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit status. `endpoints` is `module:NAME` of what workers serve.

    With `while_in_use` also until no program that `tintype run` started is left.

    Raises SettingsError when the address cannot be listened on, nothing can be kept where data or files shall be, or
    the file of prices cannot be understood.
    """
    make_data_dir(settings)
    Objects.open(settings.storage_url)
    catalog.read_prices(settings.prices)
    closed = close_to_others(settings)
    for device in chosen_devices(settings.device):  # supervisors refuse by themselves; this comes before the banner
        with device_lock(settings.data_dir, device, patience=PREDECESSOR_SECONDS):
            continue
    with ExitStack() as held:
        listener = held.enter_context(listen(settings.host, settings.port))
        set_up_log()
        host, port = listener.getsockname()[:2]
        settings = settings.model_copy(update={"host": host, "port": port, "data_dir": settings.data_dir.resolve()})
        tls = None if settings.tls_port is None else held.enter_context(listen(settings.host, settings.tls_port))
        processes = _Processes(settings, listener, launcher, endpoints)
        _introduce(settings, _origin(settings), with_link=not while_in_use)
        if closed:
            print(f"  closed   {closed} files and folders that other users of this machine could open", flush=True)
        if tls is not None:
            _introduce_tls(settings, tls.getsockname()[1])
        sockets = held.enter_context(open_proxy_sockets(settings.data_dir, _address(settings), tls, auth=settings.auth))
        if while_in_use:
            if sockets is None:
                raise SettingsError(f"Another tintype already serves {settings.data_dir}.")
            stop_when_unused(settings.data_dir, sockets.server, lambda: os.kill(os.getpid(), signal.SIGINT))
        return asyncio.run(processes.run(sockets))


class _Processes:
    """Keeps the web process, the fal proxy and, by a launcher, the supervisors alive."""

    def __init__(self, settings: Settings, listener: socket.socket, launcher: str, endpoints: str) -> None:
        self._settings = settings
        self._listener = listener
        self._lifeline = Lifeline()
        self._stopping = asyncio.Event()
        self._status = 0
        self._forced: set[asyncio.Task[None]] = set()
        self._kept: list[ManagedProcess] = []
        self._launcher = new_launcher(launcher, LaunchPlan(settings, endpoints, self._give_up))

    async def run(self, sockets: ProxySockets | None) -> int:
        """Runs them until SIGINT, SIGTERM or SIGHUP; returns the exit status. A second signal forces the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)
        self._kept.append(self._process("web", "tintype.web", {"--fd": self._listener.fileno()}))
        if sockets is not None:
            fds = {"--proxy-fd": sockets.proxy.fileno(), "--fal-fd": sockets.fal.fileno()}
            if sockets.tls is not None:
                fds["--tls-fd"] = sockets.tls.fileno()
            self._kept.append(self._process("fal proxy", "tintype.fal_proxy", fds))
        await self._launcher.start(chosen_devices(self._settings.device))
        log = serve_log(self._settings.data_dir)
        while not self._stopping.is_set():
            await asyncio.to_thread(shorten_log, log)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOG_SECONDS)
        await self._launcher.stop()  # work first: whoever polls hears to the end how it went
        for process in self._kept:
            await process.stop()
        return self._status

    def _process(self, name: str, module: str, fds: dict[str, int]) -> ManagedProcess:
        fds = {**fds, "--parent-fd": self._lifeline.fd}
        command = [sys.executable, "-m", module, *(text for option, fd in fds.items() for text in (option, str(fd)))]
        inherited = environment(self._settings)
        return ManagedProcess(name, command, inherited, fds=tuple(fds.values()), exit_seconds=EXIT_SECONDS)

    def _give_up(self) -> None:
        self._status = 1
        self._stopping.set()

    def _asked_to_stop(self) -> None:
        if not self._stopping.is_set():
            structlog.get_logger().info(
                "stopping: queued work stays queued, running work is checkpointed; again to force"
            )
            self._stopping.set()
            return
        self._status = 1
        for stop in (self._launcher.stop, *(process.stop for process in self._kept for _ in range(2))):
            self._forced.add(asyncio.ensure_future(stop()))


def listen(host: str, port: int) -> socket.socket:
    """Opens the listening socket. Raises SettingsError for an address that is taken or not this machine's."""
    patience = time.monotonic() + PREDECESSOR_SECONDS
    while True:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            both = family == socket.AF_INET6
            return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE and time.monotonic() < patience:
                time.sleep(0.05)
                continue
            raise SettingsError(
                f"Cannot listen on {host}:{port}: {(problem.strerror or str(problem)).partition(' (')[0]}.",
                remedy="Stop what uses it, or choose another with --port (0 picks a free one) or --host.",
            ) from None


def _origin(settings: Settings) -> str:
    """Returns where a person on this machine reaches the server."""
    return settings.public_url.rstrip("/") if settings.public_url else f"http://{_address(settings)}"


def _address(settings: Settings) -> str:
    """Returns host:port by which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def _introduce(settings: Settings, origin: str, *, with_link: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]tintype[/] serves at [bold link={origin}]{origin}[/]")
    console.print(f"  data     {escape(str(settings.data_dir))}")
    console.print(f"  devices  {', '.join(chosen_devices(settings.device))}")
    for family in BASE_MODELS:
        console.print(f"  model    {escape(summary(settings, family))}")
    console.print(f"  filter   {escape(describe_filter(settings))}")
    if settings.auth == "off":
        console.print("  key      none is asked for (--auth off)")
    elif (key := run_with_store(settings, first_key)) is None:
        console.print("  key      yours: `tintype keys list`; a new one: `tintype keys create --name NAME`")
        console.print("  browser  `tintype open --key NAME` prints a link to sign in with")
    else:
        path = escape(shlex.quote(str(key_file(settings.data_dir))))
        console.print(f"  key      in {path}: export FAL_KEY=$(cat {path})")
        if with_link:
            link = sign_in_url(origin, settings.data_dir, key.partition(":")[0])
            console.print(f"  browser  {link} (works once, for an hour; another: `tintype open`)")
    console.print('  programs written for fal: tintype run -- COMMAND, or eval "$(tintype env)"')
    console.print(
        "  Ctrl-C stops; queued work stays queued and running training goes on from its checkpoint next time."
    )


def _introduce_tls(settings: Settings, port: int) -> None:
    """Prints the line to paste for fal's Python client, which speaks TLS only."""
    from tintype.fal_proxy.certificates import CertificateAuthority  # cryptography is for those who need it

    roots = CertificateAuthority.open(settings.data_dir).bundle(os.environ)
    host = f"{_address(settings).rpartition(':')[0]}:{port}"
    Console(highlight=False, soft_wrap=True).print(
        f"  TLS      export FAL_RUN_HOST={host}/run FAL_QUEUE_RUN_HOST={host}/queue "
        f"SSL_CERT_FILE={escape(shlex.quote(str(roots)))}"
    )
