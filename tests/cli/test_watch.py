from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.hostile import HOSTILE, is_harmless
from typer.testing import CliRunner

from tintype import catalog
from tintype.cli import app
from tintype.cli.data import with_store
from tintype.errors import InternalError
from tintype.settings import Settings
from tintype.store import LogLine, NewRequest, Store
from tintype.web.llms import describe

runner = CliRunner()


def ended(data_dir: Path, text: str, *, fails: bool) -> str:
    """Returns the id of a request that has ended, with `text` wherever a stranger may write."""

    async def work(store: Store, _: Settings) -> str:
        new = NewRequest("e", "inference", {}, origin="http://127.0.0.1:8787")
        request, _new = await store.requests.submit(new)
        claim = await store.leases.claim("worker", "inference")
        assert claim is not None
        lines = [LogLine(0, 1.0, "INFO", text)]
        if fails:
            await store.leases.fail(claim, InternalError(text).failure(), logs=lines)
        else:
            output = {"images": [{"url": "tintype:files/" + "A" * 32 + "/a.png"}], "more": {"url": text}}
            await store.leases.complete(claim, output, [], logs=lines)
        return request.id

    return with_store(data_dir, work)


def test_a_result_ends_with_the_urls_of_its_files(tmp_path: Path) -> None:
    done = runner.invoke(app, ["watch", ended(tmp_path, "Drawing.", fails=False)[:8], "--data-dir", str(tmp_path)])
    assert done.exit_code == 0
    assert done.stdout.split() == ["http://127.0.0.1:8787/cdn/files/" + "A" * 32 + "/a.png", "Drawing."]
    assert "Drawing." in done.stderr


def test_a_failure_ends_with_its_message_and_a_status(tmp_path: Path) -> None:
    done = runner.invoke(app, ["watch", ended(tmp_path, "It broke.", fails=True), "--data-dir", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (1, "failed: It broke.\n")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_a_stranger_wrote_commands_the_terminal(tmp_path: Path, text: str, fails: bool) -> None:
    done = runner.invoke(app, ["watch", ended(tmp_path, text, fails=fails), "--data-dir", str(tmp_path)])
    assert is_harmless(done.stdout)
    assert is_harmless(done.stderr)


def test_a_custom_model_is_trained_by_a_server_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    command = ["train", str(tmp_path / "photos"), "--model", "My own style", "--data-dir", str(tmp_path)]
    assert "tintype serve" in str(runner.invoke(app, command).exception)


@pytest.mark.parametrize("endpoint", catalog.ENDPOINTS, ids=lambda endpoint: endpoint.id)
def test_an_endpoint_is_described_as_on_its_page(tmp_path: Path, endpoint: catalog.Endpoint) -> None:
    for name in (endpoint.id, *endpoint.aliases):
        shown = runner.invoke(app, ["models", "describe", name, "--data-dir", str(tmp_path)]).output
        assert shown.rstrip("\n") == describe(endpoint, name, "http://127.0.0.1:8787").rstrip("\n")


def test_without_an_id_all_endpoints_are_listed(tmp_path: Path) -> None:
    shown = runner.invoke(app, ["models", "describe", "--data-dir", str(tmp_path)]).output
    assert all(f"/models/{one.id}/llms.txt): {one.description}" in shown for one in catalog.ENDPOINTS)


def test_an_unknown_endpoint_is_told_which_there_are(tmp_path: Path) -> None:
    assert "fal-ai/flux-lora" in str(runner.invoke(app, ["models", "describe", "x"]).exception)
    near = runner.invoke(app, ["models", "describe", "fal-ai/flux-krea-lora"]).exception
    assert str(near).endswith("model is not one of this server's. The nearest here is fal-ai/flux-lora.")


@pytest.mark.parametrize(
    ("command", "option", "instead"),
    [
        (["train", "x", "--base", "ideogram4", "--trigger", "ohwx"], "--trigger", "--caption"),
        (["train", "x", "--caption", "a hat"], "--caption", "--trigger"),
        (["train", "x", "--model", "My own style", "--resolution", "auto"], "--resolution", "--steps"),
        (["generate", "x", "--base", "ideogram4", "--guidance", "3"], "--guidance", "--speed"),
        (["generate", "x", "--model", "My own style", "--lora", "x"], "--lora", "--aspect"),
        (["generate", "x", "--model", "My own style", "--out", "x.jpg"], "a JPEG as --out", "--aspect"),
    ],
)
def test_an_option_that_means_nothing_to_an_endpoint_is_refused(command: list[str], option: str, instead: str) -> None:
    said = str(runner.invoke(app, command).exception)
    assert said.startswith(f"{option} is not for ")
    assert instead in said
