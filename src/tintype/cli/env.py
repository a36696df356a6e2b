"""`tintype env`: what `tintype run` sets, as lines for a shell, for programs that are not started from here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import typer

from tintype.cli.data import DataDir
from tintype.cli.run import proxy_variables
from tintype.errors import SettingsError
from tintype.installation import find_server
from tintype.processes import keep_files_private
from tintype.settings import load_settings

Shell = Literal["bash", "fish", "powershell"]


def env(
    shell: Annotated[Shell, typer.Option(help="Whose syntax: bash (also zsh, sh), fish or powershell.")] = "bash",
    data_dir: DataDir = None,
) -> None:
    """Print the environment that sends programs to the server that runs now, for pasting or eval.

    It holds until that server stops. Example: [bold]eval "$(tintype env)"[/]
    """
    keep_files_private()
    settings = load_settings(data_dir=data_dir)
    server = find_server(settings.data_dir)
    if server is None:
        raise SettingsError(
            f"No tintype serves {settings.data_dir}.", remedy="Start `tintype serve` first; `run` does it itself."
        )
    for name, value in proxy_variables(settings, server).items():
        typer.echo(LINES[shell](name, value))


LINES: Mapping[Shell, Callable[[str, str], str]] = {
    "bash": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: "set -gx {} '{}'".format(name, value.replace("\\", "\\\\").replace("'", "\\'")),
    "powershell": lambda name, value: "$env:{} = '{}'".format(name, value.replace("'", "''")),
}
