"""`serve` refuses what cannot work with a sentence; that it serves is shown by tests/crash/ and tests/acceptance/."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from filelock import FileLock

from tintype.cli.serve import _origin, listen, run_server
from tintype.errors import SettingsError
from tintype.settings import load_settings


def test_a_data_folder_that_cannot_be_made_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="--data-dir"):
        run_server(load_settings(data_dir=tmp_path / "file" / "data", port=0))


def test_the_address_printed_is_one_a_browser_can_open() -> None:
    assert _origin(load_settings(host="0.0.0.0", port=80)) == "http://127.0.0.1:80"
    assert _origin(load_settings(host="::", port=8787)) == "http://[::1]:8787"
    assert _origin(load_settings(public_url="https://here/")) == "https://here"


@pytest.mark.slow
def test_a_second_serve_on_the_same_data_is_refused_before_it_says_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "locks").mkdir()
    with FileLock(tmp_path / "locks" / "cpu.lock"), pytest.raises(SettingsError, match="--data-dir"):
        run_server(load_settings(data_dir=tmp_path, port=0, device="cpu"))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_taken_port_is_refused_with_a_way_out() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(SettingsError, match=r"--port \(0 picks a free one\)"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_connections_wait_while_no_process_answers() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), timeout=5) as client:
        client.sendall(b"patience")
        server, _ = listener.accept()
        with server:
            assert server.recv(8) == b"patience"


@pytest.mark.parametrize("storage", ["s4://bucket", "s3://", "nonsense://"])
def test_a_storage_that_cannot_be_is_one_sentence_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str
) -> None:
    with pytest.raises(SettingsError, match=r"TINTYPE_STORAGE.*Name a folder") as caught:
        run_server(load_settings(data_dir=tmp_path, port=0, storage=storage))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
