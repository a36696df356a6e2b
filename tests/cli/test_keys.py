from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from tests.support.hostile import HOSTILE, is_harmless
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.data import with_store
from tintype.cli.keys import first_key
from tintype.settings import Settings, load_settings
from tintype.store import ApiKey, Store

runner = CliRunner()


def keys(*arguments: str, data_dir: Path) -> str:
    done = runner.invoke(app, ["keys", *arguments, "--data-dir", str(data_dir)])
    assert done.exit_code == 0, done.output
    return done.stdout


def check(text: str, data_dir: Path) -> ApiKey | None:
    async def work(store: Store, _: Settings) -> ApiKey | None:
        return await store.keys.check(text)

    return with_store(data_dir, work)


def test_create_prints_the_key_alone_and_it_is_good_before_the_first_serve(tmp_path: Path) -> None:
    printed = keys("create", "--name", "laptop", data_dir=tmp_path / "new")
    assert printed.count("\n") == 1
    found = check(printed.strip(), tmp_path / "new")
    assert found is not None
    assert found.name == "laptop"


def test_a_key_without_a_name_would_be_everyones(tmp_path: Path) -> None:
    done = runner.invoke(app, ["keys", "create", "--name", " ", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert not (tmp_path / "tintype.db").exists()


def test_the_list_never_shows_a_secret_and_a_revoked_key_is_refused(tmp_path: Path) -> None:
    text = keys("create", "--name", "laptop", data_dir=tmp_path).strip()
    assert text.split(":")[1] not in keys("list", data_dir=tmp_path)
    keys("revoke", "laptop", data_dir=tmp_path)
    assert check(text, tmp_path) is None
    assert "revoked" in keys("list", data_dir=tmp_path)


def test_the_first_key_is_kept_for_its_owner_only_and_made_once(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)

    async def twice() -> tuple[str | None, str | None]:
        store = await Store.open(settings.database_url)
        try:
            return await first_key(store, settings), await first_key(store, settings)
        finally:
            await store.close()

    first, second = asyncio.run(twice())
    assert first == second
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert first is not None
    assert check(first, tmp_path) is not None


def test_an_unknown_key_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    done = runner.invoke(app, ["keys", "revoke", "nobody", "--data-dir", str(tmp_path)])
    assert done.exit_code != 0
    assert "no key" in str(done.exception)


COMMANDS = ("", "keys", "requests", "weights", "serve", "train", "generate", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = runner.invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_revoking_twice_says_so_and_ids_survive_a_pipe(tmp_path: Path) -> None:
    key_id = keys("create", "--name", "laptop [dev]", data_dir=tmp_path).split(":")[0]
    listed = keys("list", data_dir=tmp_path).splitlines()[1].split("\t")
    assert listed[:2] == [key_id, "laptop [dev]"]
    keys("revoke", key_id, data_dir=tmp_path)
    again = runner.invoke(app, ["keys", "revoke", key_id, "--data-dir", str(tmp_path)])
    assert again.exit_code == 1
    assert "already" in str(again.exception)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_commands_no_terminal(tmp_path: Path, name: str) -> None:
    with_store(tmp_path, lambda store, _: store.keys.create(name), begins=True)
    assert is_harmless(keys("list", data_dir=tmp_path))
    assert is_harmless(keys("revoke", name, data_dir=tmp_path))
