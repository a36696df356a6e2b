"""How programs find the server, and how a server that was started for them knows that the last one is gone."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.private import open_to_others
from tintype.errors import SettingsError
from tintype.installation import (
    ServerInfo,
    close_to_others,
    device_lock,
    find_server,
    hold_open,
    is_serving,
    key_file,
    make_data_dir,
    open_proxy_sockets,
    stop_when_unused,
    write_secret,
)
from tintype.settings import load_settings


@pytest.fixture(autouse=True)
def _locks(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()


def test_it_stands_while_the_server_serves_and_for_its_owner_alone(tmp_path: Path) -> None:
    with open_proxy_sockets(tmp_path, "127.0.0.1:8787") as sockets:
        assert sockets is not None
        assert ServerInfo.read(tmp_path) == sockets.server
        assert is_serving(tmp_path)
        assert (tmp_path / "serving.json").stat().st_mode & 0o777 == 0o600
        assert Path(sockets.server.fal_socket).parent.stat().st_mode & 0o777 == 0o700
        with open_proxy_sockets(tmp_path, "127.0.0.1:9999") as second:
            assert second is None
    assert ServerInfo.read(tmp_path) is None
    assert not is_serving(tmp_path)
    assert not Path(sockets.server.fal_socket).parent.exists()


def test_asking_makes_no_folder(tmp_path: Path) -> None:
    assert not is_serving(tmp_path / "nothing here")
    assert not (tmp_path / "nothing here").exists()


def test_what_a_killed_server_left_behind_is_known_to_be_untrue(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text('{"server": "127.0.0.1:1"')
    assert ServerInfo.read(tmp_path) is None
    assert not is_serving(tmp_path)


def test_the_server_of_programs_stops_with_the_last_of_them(tmp_path: Path) -> None:
    stopped = threading.Event()
    with open_proxy_sockets(tmp_path, "127.0.0.1:8787") as sockets:
        assert sockets is not None
        programs = [hold_open(tmp_path) for _ in range(2)]
        stop_when_unused(tmp_path, sockets.server, stopped.set)
        os.close(programs.pop())
        assert not stopped.wait(0.3)
        assert ServerInfo.read(tmp_path) is not None
        os.close(programs.pop())
        assert stopped.wait(30)
        assert ServerInfo.read(tmp_path) is None


@pytest.mark.parametrize("data", ["data", "data with spaces"])
def test_programs_that_hold_it_open_need_no_server_yet(tmp_path: Path, data: str) -> None:
    (tmp_path / data / "locks").mkdir(parents=True)
    for _ in range(2):
        descriptor = hold_open(tmp_path / data)
        assert stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        os.close(descriptor)


def test_one_supervisor_works_on_a_device_and_the_next_waits_for_it_to_go(tmp_path: Path) -> None:
    with device_lock(tmp_path, "cuda:0", patience=0.0):
        with pytest.raises(SettingsError, match=r"cuda:0.*--data-dir"), device_lock(tmp_path, "cuda:0", patience=0.1):
            pass
        with device_lock(tmp_path, "cuda:1", patience=0.0):
            pass
    with device_lock(tmp_path, "cuda:0", patience=0.0):
        pass


def test_a_server_that_has_just_begun_is_waited_for(tmp_path: Path) -> None:
    assert find_server(tmp_path) is None
    with open_proxy_sockets(tmp_path, "127.0.0.1:8787") as sockets:
        assert sockets is not None
        ServerInfo.withdraw(tmp_path)
        threading.Timer(0.2, sockets.server.publish, (tmp_path,)).start()
        assert find_server(tmp_path) == sockets.server


def test_a_secret_is_its_owners_alone_also_where_a_file_was_before(tmp_path: Path) -> None:
    key_file(tmp_path).write_text("old")
    key_file(tmp_path).chmod(0o644)
    write_secret(key_file(tmp_path), b"new")
    assert key_file(tmp_path).read_text() == "new"
    assert key_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["key"]


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_is_written_into_a_data_folder_is_for_its_owner_alone(tmp_path: Path, usual_umask: None) -> None:
    settings = load_settings(data_dir=tmp_path / "deep" / "data")
    make_data_dir(settings)
    (settings.data_dir / "logs").mkdir()
    (settings.data_dir / "logs" / "log").write_text("a prompt")
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
    assert open_to_others(settings.data_dir) == []


def test_where_nothing_can_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--data-dir"):
        make_data_dir(load_settings(data_dir=tmp_path / "file" / "data"))


def test_an_open_folder_is_closed_with_all_that_is_kept_elsewhere(tmp_path: Path, usual_umask: None) -> None:
    data, photos, outside = tmp_path / "data", tmp_path / "photos", tmp_path / "outside"
    for folder in (data / "work" / "deep", photos / "id", outside):
        folder.mkdir(parents=True)
    database = tmp_path / "other.db"
    kept = [data / "tintype.db", data / "tintype.db-wal", data / "work" / "deep" / "tool", data / "backup.tar",
            photos / "id" / "a.zip", database, tmp_path / "other.db-wal", tmp_path / "other.db-shm"]  # fmt: skip
    for path in (*kept, outside / "not ours"):
        path.write_text("secret")
    (data / "work" / "deep" / "tool").chmod(0o755)
    (data / "link").symlink_to(outside)
    (data / "dangling").symlink_to(tmp_path / "nothing")
    settings = load_settings(data_dir=data, storage=str(photos), database=f"sqlite:///{database}")

    assert close_to_others(settings) == 5 + len(kept)

    assert open_to_others(data) == open_to_others(photos) == []
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600, 0o700}
    assert (outside / "not ours").stat().st_mode & 0o777 == 0o644
    assert outside.stat().st_mode & 0o777 == 0o755
    assert close_to_others(settings) == 0
    close_to_others(load_settings(data_dir=tmp_path))  # for the walk after the last test
