"""`tintype run`: any program, with what it means for fal answered by the local server.

The command becomes the program (exec), so its exit status, its signals, its terminal and its streams are its own. A
server that has to be started for it is nobody's child, and stops by itself once no program holds it open.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.data import DataDir
from tintype.errors import SettingsError
from tintype.installation import ServerInfo, find_server, hold_open, key_file, make_data_dir, serve_log
from tintype.processes import is_running, keep_files_private
from tintype.settings import Settings, load_settings

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells answer


def run(
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after --.", metavar="COMMAND")],
    data_dir: DataDir = None,
) -> None:
    """Run a program written for fal, unchanged, against your own server; starts one for it if none runs.

    Example: [bold]tintype run -- python app.py[/]
    """
    settings = load_settings(data_dir=data_dir)
    if shutil.which(command[0], os.F_OK) is None and not Path(command[0]).exists():  # before anything is made for it
        raise _no_program(command[0])
    usual = keep_files_private()
    make_data_dir(settings)
    in_use = hold_open(settings.data_dir)
    server = find_server(settings.data_dir) or _started(settings)
    environment = {**os.environ, **proxy_variables(settings, server)}
    os.set_inheritable(in_use, True)  # for as long as the program lives
    os.umask(usual)  # what the program writes is its own business
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        raise _no_program(command[0]) from None
    except OSError as problem:
        typer.echo(f"tintype run: {command[0]}: {problem.strerror}", err=True)
        raise typer.Exit(NOT_EXECUTABLE) from None


def _no_program(name: str) -> typer.Exit:
    typer.echo(f"tintype run: {name}: there is no such program", err=True)
    return typer.Exit(NOT_FOUND)


def proxy_variables(settings: Settings, server: ServerInfo) -> dict[str, str]:
    """Returns what is set for a program; certificates are imported (and made) only by who needs them."""
    from tintype.fal_proxy.certificates import CertificateAuthority
    from tintype.fal_proxy.environment import variables

    if server.auth == "on" and not key_file(settings.data_dir).exists():
        raise SettingsError(
            f"There is no {key_file(settings.data_dir)}, the key that programs are given.",
            remedy=f"Make one: (umask 077; tintype keys create --name run > {key_file(settings.data_dir)})",
        )
    return variables(server, CertificateAuthority.open(settings.data_dir), os.environ)


def _started(settings: Settings) -> ServerInfo:
    log = serve_log(settings.data_dir)
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = log.stat().st_size if log.exists() else 0
    port = settings.port if _is_free(settings.host, settings.port) else 0
    command = [sys.executable, "-m", "tintype", "serve", "--port", str(port), "--while-in-use"]
    pid = _nobodys_child([*command, "--data-dir", str(settings.data_dir)], log)
    while pid > 0 and is_running(pid):
        if (server := find_server(settings.data_dir)) is not None:
            return server
        time.sleep(0.05)
    if (server := find_server(settings.data_dir)) is not None:  # another program's server was quicker than ours
        return server
    said = log.read_bytes()[begin:].decode(errors="replace").strip()[-2000:]
    raise SettingsError(f"No server came up for {settings.data_dir}. {said}", remedy="`tintype serve` shows more.")


def _is_free(host: str, port: int) -> bool:
    """Tells whether a server can have its usual port, by which the URLs it once gave still lead to it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _nobodys_child(command: list[str], log: Path) -> int:
    """Starts a process whose parent is gone at once: the program must not find a child that it never had."""
    from tintype.fal_proxy.environment import original_environment

    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    env=original_environment(os.environ),
                )  # fmt: skip
            os.write(writing, str(process.pid).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    with os.fdopen(reading, "rb") as pipe:
        return int(pipe.read() or -1)
