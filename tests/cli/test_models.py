from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.support.hostile import HOSTILE, is_harmless
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.data import with_store
from tintype.files import Objects, internal_url, new_file_id
from tintype.settings import Settings
from tintype.store import CustomModel, NewModel, NewRequest, Store, StoredFile

runner = CliRunner()


def models(data_dir: Path, *arguments: str, code: int = 0, answer: str | None = None) -> str:
    done = runner.invoke(app, ["models", *arguments, "--data-dir", str(data_dir)], input=answer)
    assert done.exit_code == code, done.output
    return done.output if code == 0 else f"{done.output}{done.exception}"


def make(data_dir: Path, name: str = "My own style", *, finish: bool = True) -> CustomModel:
    """A model, trained unless its training is to wait; its file is on the disk."""

    async def work(store: Store, settings: Settings) -> CustomModel:
        request, _new = await store.requests.submit(NewRequest("t", "training", {}, makes_model=NewModel(name)))
        if finish:
            claim = await store.leases.claim("worker", "training")
            assert claim is not None
            file_id = new_file_id()
            size = Objects.open(settings.storage_url).put_bytes(f"{file_id}/lora.safetensors", b"weights")
            file = StoredFile(file_id, "lora.safetensors", "application/octet-stream", size, time.time())
            output = {"diffusers_lora_file": {"url": internal_url(file_id, file.file_name)}}
            await store.leases.complete(claim, output, [file])
        model = await store.models.find(request.model_id or "")
        assert model is not None
        return model

    return with_store(data_dir, work)


def test_a_model_is_listed_and_shown_by_the_first_characters_of_its_id(tmp_path: Path) -> None:
    model = make(tmp_path)
    listed = models(tmp_path, "list")
    assert model.id in listed
    assert "My own style" in listed
    shown = json.loads(models(tmp_path, "show", model.id[:8]))
    assert (shown["model_id"], shown["status"], shown["custom_model_uri"]) == (model.id, "COMPLETED", model.uri)
    assert model.id not in models(tmp_path, "list", "--status", "TRAINING")


def test_renaming_keeps_the_uri(tmp_path: Path) -> None:
    model = make(tmp_path)
    assert "Red hats" in models(tmp_path, "rename", model.id, "Red hats")
    shown = json.loads(models(tmp_path, "show", model.id))
    assert (shown["name"], shown["custom_model_uri"]) == ("Red hats", model.uri)
    assert "5 to 30" in models(tmp_path, "rename", model.id, "Red", code=1)


def test_an_archived_model_is_hidden_but_still_found(tmp_path: Path) -> None:
    model = make(tmp_path)
    assert model.id in models(tmp_path, "archive", model.id[:8])
    assert model.id not in models(tmp_path, "list")
    assert model.id in models(tmp_path, "list", "--status", "ARCHIVED")
    assert json.loads(models(tmp_path, "show", model.id[:8]))["files"]


def test_deleting_asks_first_and_removes_the_files(tmp_path: Path) -> None:
    model = make(tmp_path)
    assert list((tmp_path / "files").rglob("lora.safetensors"))
    models(tmp_path, "delete", model.id, code=1, answer="n\n")
    assert list((tmp_path / "files").rglob("lora.safetensors"))
    assert "with 1 file\n" in models(tmp_path, "delete", model.id, "--yes")
    assert not list((tmp_path / "files").rglob("lora.safetensors"))
    shown = json.loads(models(tmp_path, "show", model.id))
    assert (shown["status"], shown["files"]) == ("ARCHIVED", {})
    assert "was deleted" in models(tmp_path, "rename", model.id, "Red hats", code=1)


def test_a_model_whose_training_waits_cannot_be_deleted(tmp_path: Path) -> None:
    model = make(tmp_path, finish=False)
    assert model.request_id in models(tmp_path, "delete", model.id, "--yes", code=1)


def test_an_unknown_model_points_to_the_list(tmp_path: Path) -> None:
    assert "tintype models list" in models(tmp_path, "show", "nope", code=1)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_commands_no_terminal(tmp_path: Path, name: str) -> None:
    model = make(tmp_path, name)
    for said in (("list",), ("show", model.id), ("archive", model.id)):
        assert is_harmless(models(tmp_path, *said))
