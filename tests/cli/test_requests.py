from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.hostile import HOSTILE, is_harmless
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.data import with_store
from tintype.errors import InternalError
from tintype.settings import Settings
from tintype.store import LogLine, NewRequest, Request, Store

runner = CliRunner()


def requests(data_dir: Path, *arguments: str, code: int = 0) -> str:
    done = runner.invoke(app, ["requests", *arguments, "--data-dir", str(data_dir)])
    assert done.exit_code == code, done.output
    return done.output if code == 0 else str(done.exception)


def submit(data_dir: Path, *, fail: bool = False) -> Request:
    """A queued request, or one that a worker claimed and failed."""

    async def work(store: Store, _: Settings) -> Request:
        request, _new = await store.requests.submit(NewRequest("fal-ai/flux-lora", "inference", {"prompt": "a hat"}))
        if fail:
            claim = await store.leases.claim("worker", "inference")
            assert claim is not None
            await store.leases.fail(
                claim, InternalError("It broke.").failure(), logs=[LogLine(0, 1.0, "INFO", "Drawing.")]
            )
        return request

    return with_store(data_dir, work)


def test_show_is_json_and_takes_the_first_characters_of_an_id(tmp_path: Path) -> None:
    request = submit(tmp_path)
    shown = json.loads(requests(tmp_path, "show", request.id[:8]))
    assert shown["id"] == request.id
    assert shown["input"] == {"prompt": "a hat"}
    assert shown["status"] == "IN_QUEUE"


def test_list_and_logs_say_what_happened(tmp_path: Path) -> None:
    request = submit(tmp_path, fail=True)
    assert requests(tmp_path, "list").splitlines()[1].split("\t")[:2] == [request.id, "fal-ai/flux-lora"]
    assert "Drawing." in requests(tmp_path, "logs", request.id)


def test_cancel_ends_a_queued_request_and_says_so_the_second_time(tmp_path: Path) -> None:
    request = submit(tmp_path)
    assert "cancelled" in requests(tmp_path, "cancel", request.id)
    assert "already ended" in requests(tmp_path, "cancel", request.id, code=1)


def test_retry_queues_a_failed_request_again_under_its_id(tmp_path: Path) -> None:
    request = submit(tmp_path, fail=True)
    assert request.id in requests(tmp_path, "retry", request.id)
    assert json.loads(requests(tmp_path, "show", request.id))["status"] == "IN_QUEUE"
    assert "only failed or cancelled" in requests(tmp_path, "retry", request.id, code=1)


def test_an_unknown_request_points_to_the_list(tmp_path: Path) -> None:
    assert "tintype requests list" in requests(tmp_path, "show", "nope", code=1)


def test_show_names_the_newest_checkpoint(tmp_path: Path) -> None:
    async def work(store: Store, _: Settings) -> Request:
        request, _new = await store.requests.submit(NewRequest("fal-ai/flux-lora-portrait-trainer", "training", {}))
        claim = await store.leases.claim("worker", "training")
        assert claim is not None
        await store.leases.heartbeat(claim, step=260, total=500, checkpoint_step=250)
        return request

    request = with_store(tmp_path, work)
    assert json.loads(requests(tmp_path, "show", request.id))["checkpoint"] == 250


def test_looking_where_nothing_is_begins_nothing(tmp_path: Path) -> None:
    assert "--data-dir" in requests(tmp_path / "wrong", "list", code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_a_sender_wrote_commands_the_terminal(tmp_path: Path, text: str) -> None:
    async def work(store: Store, _: Settings) -> Request:
        new = NewRequest(f"e/{text}", "inference", {"prompt": text, text: [text]}, tags={"t": text}, notes=(text,))
        request, _new = await store.requests.submit(new)
        claim = await store.leases.claim(text, "inference")
        assert claim is not None
        await store.leases.fail(claim, InternalError(text).failure(), logs=[LogLine(0, 1.0, text, text)])
        return request

    request = with_store(tmp_path, work)
    shown = requests(tmp_path, "show", request.id)
    assert json.loads(shown)["input"] == {"prompt": text, text: [text]}
    assert is_harmless(shown)
    assert is_harmless(requests(tmp_path, "list"))
    assert is_harmless(requests(tmp_path, "logs", request.id))


def test_a_message_of_several_lines_forges_no_line_of_the_log(tmp_path: Path) -> None:
    async def work(store: Store, _: Settings) -> Request:
        notes = ("one\n2026-01-01 00:00:00 INFO  The key is valid.",)
        return (await store.requests.submit(NewRequest("e", "inference", {}, notes=notes)))[0]

    lines = requests(tmp_path, "logs", with_store(tmp_path, work).id).splitlines()
    assert [line.startswith(" " * 26) for line in lines] == [False, True]
