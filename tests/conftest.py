"""What every test shares: asyncio as the engine, and the promise that nothing leaves this machine."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

# Before any test imports torch: its threads must not spin while the processes of other tests want the cores.
import tintype.jobs  # noqa: F401
from tests.support.postgres import fresh_database, running_postgres
from tests.support.private import data_folders, open_to_others
from tests.support.scheduling import ByGroup, begins_at
from tests.support.shared import started_once

os.umask(
    0o077
)  # as make_data_dir does here sooner or later; servers that tests start get 022, and see to it themselves
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in a shell's background: what tests start has to hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker for each core, so one thread for each, in child processes as well
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", "")


@pytest.fixture(autouse=True)
def _nothing_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection beyond loopback fails the test that made it."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            assert _is_local(address), f"a test tried to reach {address}"
            return original(self, address)

        return call

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))


@pytest.fixture(scope="session", autouse=True)
def _nothing_that_was_kept_is_open_to_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Walks, after the last test, the data folder of every installation that the tests of this worker had."""
    yield
    assert [open for folder in data_folders(tmp_path_factory.getbasetemp()) for open in open_to_others(folder)] == []


# What starts a server is left out by `make test-quick`.
SERVERS = {"postgres_server", "server", "serving", "supervised", "bucket"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes minutes; `make test-long` runs exactly that (-m long)."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())) or "[postgres" in item.name or "postgres]" in item.name:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: begins_at(item.nodeid))
    if config.getoption("-m"):
        return
    kept = [item for item in items if "long" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if "long" in item.keywords])
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    """Keeps together what shares fixtures, and begins with what takes longest."""
    config.option.loadscopereorder = False
    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Under TINTYPE_REQUIRE_ALL a skip is a failure, except where a GPU is needed."""
    report = yield
    if report.skipped and os.environ.get("TINTYPE_REQUIRE_ALL") == "1" and "gpu" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped although everything was required: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Postgres, one for all workers of a run."""
    with started_once(tmp_path_factory, "postgres", running_postgres) as uri:
        yield uri


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The address of a fresh database on it, as a person would write it in TINTYPE_DATABASE."""
    with fresh_database(postgres_server) as uri:
        yield uri
