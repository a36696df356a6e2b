from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.hostile import HOSTILE, is_harmless
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.data import with_store
from tintype.settings import Settings
from tintype.store import NewRequest, SigningKey, Store

runner = CliRunner()
URL = "https://hooks.example/x"


def webhooks(*arguments: str, data_dir: Path) -> str:
    done = runner.invoke(app, ["webhooks", *arguments, "--data-dir", str(data_dir)])
    assert done.exit_code == 0, done.output
    return done.stdout


def delivered(data_dir: Path) -> str:
    """The id of a request whose webhook has been delivered."""

    async def work(store: Store, _: Settings) -> str:
        request, _new = await store.requests.submit(NewRequest("fal-ai/flux-lora", "inference", {}, webhook_url=URL))
        await store.requests.cancel(request.id)
        [delivery] = await store.webhooks.claim(1)
        await store.webhooks.delivered(delivery, "Answered 200.")
        return request.id

    return with_store(data_dir, work)


def keys(data_dir: Path) -> list[SigningKey]:
    async def work(store: Store, _: Settings) -> list[SigningKey]:
        return await store.webhooks.signing_keys()

    return with_store(data_dir, work)


def test_a_webhook_is_listed_and_sent_again_by_hand(tmp_path: Path) -> None:
    request_id = delivered(tmp_path)
    row = webhooks("list", data_dir=tmp_path).splitlines()[1].split("\t")
    assert (row[1:5], row[6]) == ([request_id, URL, "delivered", "1"], "Answered 200.")
    assert URL in webhooks("replay", request_id, data_dir=tmp_path)
    rows = webhooks("list", "--request", request_id, data_dir=tmp_path).splitlines()[1:]
    assert [row.split("\t")[3] for row in rows] == ["waiting", "delivered"]
    assert webhooks("list", "--request", "another", data_dir=tmp_path).splitlines()[1:] == []


def test_a_key_is_rotated_with_a_day_of_both_or_at_once(tmp_path: Path) -> None:
    [first] = keys(tmp_path)
    second = webhooks("rotate-key", data_dir=tmp_path).split()[0]
    assert [key.id for key in keys(tmp_path)] == [first.id, second]
    third = webhooks("rotate-key", "--now", data_dir=tmp_path).split()[0]
    assert [key.id for key in keys(tmp_path)] == [third]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_receiver_answers_commands_no_terminal(tmp_path: Path, text: str) -> None:
    async def work(store: Store, _: Settings) -> None:
        new = NewRequest("fal-ai/flux-lora", "inference", {}, webhook_url=URL + text)
        request, _new = await store.requests.submit(new)
        await store.requests.cancel(request.id)
        [delivery] = await store.webhooks.claim(1)
        await store.webhooks.delivered(delivery, text)

    with_store(tmp_path, work)
    assert is_harmless(webhooks("list", data_dir=tmp_path))
