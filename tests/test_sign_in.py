from __future__ import annotations

import time
from pathlib import Path

import pytest

from tintype.sign_in import LINK_SECONDS, sign_in_url, take_code


def code_of(link: str) -> str:
    return link.partition("#")[2]


def test_a_link_works_once(tmp_path: Path) -> None:
    link = sign_in_url("http://here", tmp_path, "key-1")
    assert link.startswith("http://here/sign-in#")
    assert take_code(tmp_path, code_of(link)) == "key-1"
    assert take_code(tmp_path, code_of(link)) is None


def test_a_link_is_over_after_an_hour_and_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (sign_in_url("http://here", tmp_path, "key") for _ in range(2))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LINK_SECONDS + 1)
    assert take_code(tmp_path, code_of(first)) is None
    third = sign_in_url("http://here", tmp_path, "key")
    assert [path.is_file() for path in (tmp_path / "sign-in").iterdir()] == [True]
    assert take_code(tmp_path, code_of(second)) is None
    assert take_code(tmp_path, code_of(third)) == "key"


def test_what_is_kept_is_no_link(tmp_path: Path) -> None:
    code = code_of(sign_in_url("http://here", tmp_path, "key"))
    (kept,) = (tmp_path / "sign-in").iterdir()
    assert code not in kept.name + kept.read_text()
    assert take_code(tmp_path, kept.name) is None
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("code", ["", "../key", "é", "\ud800", "x" * 5000, "\0"])
def test_no_other_code_is_a_link(tmp_path: Path, code: str) -> None:
    sign_in_url("http://here", tmp_path, "key")
    assert take_code(tmp_path, code) is None
