"""Who starts supervisors, and where: a launcher is one file, named by one line in `LAUNCHERS`.

A supervisor needs nothing but its command and its environment, so it can be started by anything: by this machine's
`serve`, a service manager, or a machine that was rented for it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from tintype.errors import SettingsError
from tintype.settings import PREFIX, Settings

LAUNCHERS = {"local": "tintype.worker.local_launcher:LocalLauncher"}  # what `--launcher` names


@dataclass(frozen=True)
class LaunchPlan:
    """Says what a launcher needs to know. `endpoints` is `module:NAME` of what supervisors serve."""

    settings: Settings
    endpoints: str
    give_up: Callable[[], None]  # ends the server: a supervisor found that it can never work

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.settings)

    def command(self, device: str) -> list[str]:
        """Returns what starts the supervisor of a device, on any machine that has this Python."""
        options = ["--device", device, "--endpoints", self.endpoints]
        return [sys.executable, "-m", "tintype.worker.supervisor", *options]


class Launcher(Protocol):
    """Starts supervisors, keeps them alive, and stops them."""

    async def start(self, devices: Sequence[str]) -> None:
        """Starts a supervisor for each device; returns without waiting for them to work."""
        ...

    async def stop(self) -> None:
        """Drains all supervisors and returns when they have ended. Called again meanwhile, it ends them by force."""
        ...


def new_launcher(name: str, plan: LaunchPlan) -> Launcher:
    """Makes the launcher of a name. Raises SettingsError for one that is not registered."""
    if name not in LAUNCHERS:
        known = ", ".join(LAUNCHERS)
        raise SettingsError(f"There is no launcher {name!r}.", remedy=f"Choose one with --launcher: {known}.")
    module, _, kind = LAUNCHERS[name].partition(":")
    return cast(Callable[[LaunchPlan], Launcher], getattr(importlib.import_module(module), kind))(plan)


def environment(settings: Settings) -> dict[str, str]:
    """Returns this process's environment with the settings in it, for processes that read them from there."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        kept[PREFIX + name.upper()] = value if isinstance(value, str) else json.dumps(value)
    return kept
