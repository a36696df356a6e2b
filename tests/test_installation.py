"""How programs find the server, and how a server that was started for them knows that the last one is gone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tintype import installation
from tintype.installation import Signpost


@pytest.fixture(autouse=True)
def _locks(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()


def test_it_stands_while_the_server_serves_and_for_its_owner_alone(tmp_path: Path) -> None:
    with installation.opened(tmp_path, "127.0.0.1:8787") as sockets:
        assert sockets is not None
        assert Signpost.read(tmp_path) == sockets.signpost
        assert installation.is_serving(tmp_path)
        assert (tmp_path / "serving.json").stat().st_mode & 0o777 == 0o600
        assert Path(sockets.signpost.fal).parent.stat().st_mode & 0o777 == 0o700
        with installation.opened(tmp_path, "127.0.0.1:9999") as second:
            assert second is None
    assert Signpost.read(tmp_path) is None
    assert not installation.is_serving(tmp_path)
    assert not Path(sockets.signpost.fal).parent.exists()


def test_asking_makes_no_folder(tmp_path: Path) -> None:
    assert not installation.is_serving(tmp_path / "nothing here")
    assert not (tmp_path / "nothing here").exists()


def test_what_a_killed_server_left_behind_is_known_to_be_untrue(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text('{"server": "127.0.0.1:1"')
    assert Signpost.read(tmp_path) is None
    assert not installation.is_serving(tmp_path)


def test_the_server_of_programs_stops_with_the_last_of_them(tmp_path: Path) -> None:
    stopped = threading.Event()
    with installation.opened(tmp_path, "127.0.0.1:8787") as sockets:
        assert sockets is not None
        programs = [installation.hold_open(tmp_path) for _ in range(2)]
        installation.stop_when_unused(tmp_path, sockets, stopped.set)
        os.close(programs.pop())
        assert not stopped.wait(0.3)
        assert Signpost.read(tmp_path) is not None
        os.close(programs.pop())
        assert stopped.wait(30)
        assert Signpost.read(tmp_path) is None


@pytest.mark.parametrize("data", ["data", "data with spaces"])
def test_programs_that_hold_it_open_need_no_server_yet(tmp_path: Path, data: str) -> None:
    (tmp_path / data / "locks").mkdir(parents=True)
    for _ in range(2):
        descriptor = installation.hold_open(tmp_path / data)
        assert stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        os.close(descriptor)
