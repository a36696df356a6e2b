from __future__ import annotations

from pathlib import Path

import pytest

from tintype.errors import SettingsError
from tintype.settings import load_settings
from tintype.worker.launcher import environment


def test_a_misspelt_setting_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_DATADIR", "/somewhere")
    with pytest.raises(SettingsError, match="Did you mean TINTYPE_DATA_DIR"):
        load_settings()


def test_each_base_model_has_a_setting_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_FLUX_BASE", "miniature")
    assert load_settings(ideogram4_base="someone/something").bases == {
        "flux": "miniature",
        "ideogram4": "someone/something",
    }
    monkeypatch.setenv("TINTYPE_FLX_BASE", "miniature")
    with pytest.raises(SettingsError, match="Did you mean TINTYPE_FLUX_BASE"):
        load_settings()


def test_processes_read_the_bases_they_are_handed_from_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = environment(load_settings(flux_base="miniature", ideogram4_base="a/b"))
    monkeypatch.setattr("os.environ", handed)
    assert load_settings().bases == {"flux": "miniature", "ideogram4": "a/b"}
    monkeypatch.setattr("os.environ", handed | {"TINTYPE_BASES": '{"flx": "miniature"}'})
    with pytest.raises(SettingsError, match="no base model flx"):
        load_settings()


def test_a_value_of_the_wrong_kind_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_PORT", "eighty")
    with pytest.raises(SettingsError, match=r"TINTYPE_PORT.*'eighty'"):
        load_settings()


def test_what_is_given_wins_over_the_environment_and_none_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_PORT", "9000")
    assert load_settings(port=None).port == 9000
    assert load_settings(port=1234).port == 1234


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("postgresql://me@localhost/tintype", "postgresql+psycopg://me@localhost/tintype"),
        ("postgres://me@localhost/tintype", "postgresql+psycopg://me@localhost/tintype"),
        ("sqlite:////var/tintype.db", "sqlite+aiosqlite:////var/tintype.db"),
    ],
)
def test_a_database_is_named_as_people_name_it(given: str, url: str) -> None:
    assert load_settings(database=given).database_url == url


def test_everything_lies_below_the_data_dir_by_default(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    assert settings.database_url.endswith(f"{tmp_path}/tintype.db")
    assert settings.storage_url == str(tmp_path / "files")
    assert settings.work_dir == tmp_path / "work"


@pytest.mark.parametrize("given", ["https://me.example", "http://10.0.0.1:8787/", "https://me.example/tintype"])
def test_a_public_url_is_an_origin(given: str) -> None:
    assert load_settings(public_url=given).public_url == given


@pytest.mark.parametrize("given", ["me.example", "ftp://me.example", "https://", "https://me.example/?a", "https:// x"])
def test_half_a_public_url_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match=r"TINTYPE_PUBLIC_URL.*https://tintype.example"):
        load_settings(public_url=given)
