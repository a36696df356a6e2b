"""`tintype run`: any program, with what it means for fal turned to the local server.

The command becomes the program (exec), so its exit status, its signals, its terminal and its streams are its own. A
server that has to be started for it is nobody's child, and stops by itself once no program holds it open.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tintype import installation
from tintype.cli.data import DataDir
from tintype.errors import SettingsError
from tintype.installation import Signpost
from tintype.processes import is_running
from tintype.settings import Settings, load_settings

START_SECONDS = 60.0
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells answer


def run(
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after --.", metavar="COMMAND")],
    data_dir: DataDir = None,
) -> None:
    """Run a program written for fal, unchanged, against your own server; starts one for it if none runs.

    Example: [bold]tintype run -- python app.py[/]
    """
    settings = load_settings(data_dir=data_dir)
    settings.make_data_dir()
    in_use = installation.hold_open(settings.data_dir)
    here = found(settings.data_dir) or _started(settings)
    turned = {**os.environ, **detour_variables(settings, here)}
    os.set_inheritable(in_use, True)  # for as long as the program lives
    try:
        os.execvpe(command[0], command, turned)
    except FileNotFoundError:
        typer.echo(f"tintype run: {command[0]}: there is no such program", err=True)
        raise typer.Exit(NOT_FOUND) from None
    except OSError as problem:
        typer.echo(f"tintype run: {command[0]}: {problem.strerror}", err=True)
        raise typer.Exit(NOT_EXECUTABLE) from None


def detour_variables(settings: Settings, here: Signpost) -> dict[str, str]:
    """What is set for a program; certificates are imported (and made) only by who needs them."""
    from tintype.fal_proxy.certificates import Authority
    from tintype.fal_proxy.environment import variables

    if here.auth == "on" and not (settings.data_dir / "key").exists():
        raise SettingsError(
            f"There is no {settings.data_dir / 'key'}, the key by which programs are turned.",
            remedy=f"Make one: (umask 077; tintype keys create --name run > {settings.data_dir / 'key'})",
        )
    return variables(here, Authority.of(settings.data_dir), os.environ)


def found(data_dir: Path) -> Signpost | None:
    """The server of this folder, if one serves; one that is just beginning or ending is waited for."""
    deadline = time.monotonic() + START_SECONDS
    while installation.is_serving(data_dir):
        here = Signpost.read(data_dir)
        if here is not None:
            return here
        if time.monotonic() > deadline:
            raise SettingsError(f"A tintype holds {data_dir} but does not serve.", remedy="Stop it, or wait for it.")
        time.sleep(0.05)
    return None


def _started(settings: Settings) -> Signpost:
    log = settings.data_dir / "logs" / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = log.stat().st_size if log.exists() else 0
    port = settings.port if _is_free(settings.host, settings.port) else 0
    command = [sys.executable, "-m", "tintype", "serve", "--port", str(port), "--while-in-use"]
    server = _nobodys_child([*command, "--data-dir", str(settings.data_dir)], log)
    while server > 0 and is_running(server):
        here = found(settings.data_dir)
        if here is not None:
            return here
        time.sleep(0.05)
    if (here := found(settings.data_dir)) is not None:  # another program's server was quicker than ours
        return here
    said = log.read_bytes()[begin:].decode(errors="replace").strip()[-2000:]
    raise SettingsError(f"No server came up for {settings.data_dir}. {said}", remedy="`tintype serve` shows more.")


def _is_free(host: str, port: int) -> bool:
    """Whether a server can have its usual port, by which the URLs it once gave still lead to it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _nobodys_child(command: list[str], log: Path) -> int:
    """Starts a process whose parent is gone at once: the program must not find a child that it never had."""
    from tintype.fal_proxy.environment import untouched

    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    env=untouched(os.environ),
                )  # fmt: skip
            os.write(writing, str(process.pid).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    with os.fdopen(reading, "rb") as pipe:
        return int(pipe.read() or -1)
