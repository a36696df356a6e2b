from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.support.s3 import running_bucket
from typer.testing import CliRunner

from tintype.checks import CHECKS, check_weights
from tintype.cli import app
from tintype.files import Objects
from tintype.settings import load_settings


def test_every_check_answers_and_what_is_amiss_has_a_remedy(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, port=0)
    for found in (*(check(settings) for check in CHECKS), *check_weights(settings)):
        assert found.what
        assert found.good or found.remedy


def test_a_port_in_use_is_found_and_the_command_fails(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path)], env={"TINTYPE_PORT": port})
    assert done.exit_code == 1
    assert "--port" in done.output


def test_brackets_are_shown_and_the_port_can_be_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path), "--port", port])
    assert done.exit_code == 1
    assert f"127.0.0.1:{port}" in done.output
    assert "FLUX.1 [dev]" in done.output


def test_a_bucket_is_written_read_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        arguments = ["doctor", "--data-dir", str(tmp_path), "--port", "0"]
        good = CliRunner().invoke(app, arguments, env={"TINTYPE_STORAGE": bucket.url})
        bad = CliRunner().invoke(app, arguments, env={"TINTYPE_STORAGE": "s3://no-such-bucket/x"})
        assert not [batch for batch in Objects.open(bucket.url).older_than(-60) if batch]
    assert f"kept in {bucket.url}" in good.output
    assert "not usable" in bad.output
    assert bad.exit_code == 1


def test_both_bases_are_checked_and_one_without_weights_fails(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, flux_base="miniature", ideogram4_base=str(tmp_path))
    assert [(found.name, found.good) for found in check_weights(settings)] == [
        ("flux weights", True),
        ("ideogram4 weights", False),
    ]
