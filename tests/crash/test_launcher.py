"""Another launcher is one file and one line: `serve` works with it, and its supervisors need no parent."""

from __future__ import annotations

import signal

import pytest
from tests.support.processes import PROGRAM, ServeProcess

from tintype.store import Outcome

pytestmark = pytest.mark.anyio

REGISTERED = (
    "from tintype.worker.launcher import LAUNCHERS\n"
    "LAUNCHERS['detached'] = 'tests.support.detached_launcher:DetachedLauncher'\n"
)


async def test_a_launcher_of_ones_own_serves_and_its_supervisor_outlives_the_server(serving: ServeProcess) -> None:
    serving.program = REGISTERED + PROGRAM.replace("endpoints=", "launcher='detached', endpoints=")
    serve = serving.start()
    await serving.ready()
    assert (await serving.finished(await serving.submit(steps=3))).outcome is Outcome.OK
    supervisor = await serving.member("supervisor")
    assert "--parent-fd" not in supervisor.cmdline()

    serve.kill()
    await serving.eventually(lambda: not serving.members("web"), "the end of the web process")
    assert (await serving.finished(await serving.submit(steps=3))).outcome is Outcome.OK
    assert supervisor.is_running()

    supervisor.terminate()
    await serving.eventually(lambda: not serving.tree(), "the end of the supervisor and its children")


async def test_a_launcher_of_ones_own_is_asked_to_stop_with_the_server(serving: ServeProcess) -> None:
    serving.program = REGISTERED + PROGRAM.replace("endpoints=", "launcher='detached', endpoints=")
    serve = serving.start()
    await serving.ready()
    await serving.member("supervisor")
    serve.send_signal(signal.SIGINT)
    assert await serving.ended() == 0
    assert serving.tree() == []
