from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from miniature.world import Subject, photograph, write_archive
from PIL import Image
from tests.support.tiny_ideogram import save_tiny_ideogram
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.data import with_store
from tintype.files import Objects, internal_url, new_file_id
from tintype.settings import Settings
from tintype.store import NewModel, NewRequest, Store, StoredFile

pytestmark = pytest.mark.slow

runner = CliRunner()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photos, with a file among them that is none."""
    archive, folder = tmp_path / "photos.zip", tmp_path / "photos"
    write_archive(archive, photograph(Subject.from_seed(21), 10, 512), captions=True)
    zipfile.ZipFile(archive).extractall(folder)
    (folder / "[dev] notes.pdf").write_bytes(b"%PDF-")
    return folder


def test_the_folder_one_is_in_becomes_a_lora_twice_that_generate_draws_with(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output lies among the photos, as the default has it, and each training sees the photos alone."""
    monkeypatch.chdir(photos)
    command = ["train", ".", "--trigger", "ohwx", "--no-multiresolution", "--steps"]
    before = sum(path.stat().st_size for path in photos.iterdir())
    for more in (["3"], ["2"], ["1", "--out", "other"]):
        trained = runner.invoke(app, [*command, *more])
        assert trained.exit_code == 0, trained.output
        assert "[dev] notes.pdf" in trained.output  # brackets are no markup
        out = photos / (more[-1] if "--out" in more else "lora")
        config = json.loads((out / "config.json").read_text())
        assert config["requested"]["steps"] == int(more[0])
        report = json.loads((out / "report.json").read_text())
        assert {image["name"].partition(".")[0] for image in report["kept"]} == {f"photo_{n:02d}" for n in range(10)}
        assert all(image["caption_source"] == "file" for image in report["kept"])
        assert [note["name"] for note in report["dropped"]] == ["[dev] notes.pdf"]
        assert {"lora"} <= {note["name"] for note in report["ignored"]} <= {"lora", "other"}
        assert not (out / ".work").exists()
        assert "tintype weights pull flux" in trained.output.rstrip().splitlines()[-1]
    assert sum(path.stat().st_size for path in photos.iterdir() if path.is_file()) == before
    out = photos / "lora"
    pictures = []
    for name, loras in (("base", []), ("lora", ["--lora", str(out / "lora.safetensors"), "--scale", "2"])):
        path = tmp_path / f"{name}.png"
        command = ["generate", "a portrait of ohwx", "--steps", "4", "--seed", "1", "--out", str(path), *loras]
        drawn = runner.invoke(app, command)
        assert drawn.exit_code == 0, drawn.output
        assert "tintype weights pull flux" in drawn.output.rstrip().splitlines()[-1]
        assert drawn.output.count("tintype weights pull flux") == 1
        pictures.append(Image.open(path).tobytes())
    assert pictures[0] != pictures[1]


def test_what_a_training_works_with_is_for_its_owner_and_what_comes_of_it_as_the_umask_says(
    photos: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "lora", os.umask(0o022)
    try:
        runner.invoke(app, ["train", str(photos), "--resume-from", str(tmp_path / "nothing"), "--out", str(out)])
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (out, out / ".work")] == [0o755, 0o700]


def test_what_is_not_there_and_what_is_out_of_range_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    gone = runner.invoke(app, ["train", str(tmp_path / "nothing"), "--out", str(tmp_path / "lora")])
    assert "is not there" in str(gone.exception)
    odd = runner.invoke(app, ["generate", "a hat", "--steps", "0", "--out", str(tmp_path / "x.png")])
    assert "num_inference_steps" in str(odd.exception)
    same = runner.invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "x" / "..")])
    assert "Name another one" in str(same.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_other_base_and_a_custom_model(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny_ideogram(tmp_path / "ideogram")
    (folder / "miniature.json").write_text(json.dumps({"nominal_scale": 16, "token_pixels": 16}))
    monkeypatch.setenv("TINTYPE_IDEOGRAM4_BASE", str(folder))
    base, out, data_dir = ["--base", "ideogram4"], tmp_path / "lora", tmp_path / "data"
    much = ["--steps", "100", "--rank", "4", "--learning-rate", "0.01"]
    trained = runner.invoke(app, ["train", str(photos), *base, *much, "--out", str(out)])
    assert trained.exit_code == 0, trained.output
    assert json.loads((out / "config.json").read_text())["requested"]["rank"] == 4

    async def keep(store: Store, settings: Settings) -> str:
        request, _ = await store.requests.submit(NewRequest("t", "training", {}, makes_model=NewModel("My own style")))
        claim = await store.leases.claim("worker", "training")
        assert claim is not None
        file = StoredFile(new_file_id(), "lora.safetensors", "", 1, 0.0)
        Objects.open(settings.storage_url).put_path(file.key, out / "lora.safetensors")
        output = {"diffusers_lora_file": {"url": internal_url(file.id, file.file_name)}}
        await store.leases.complete(claim, output, [file])
        return request.model_id or ""

    data_dir.mkdir()
    model_id = with_store(data_dir, keep)
    pictures = []
    lora = [*base, "--lora", str(out / "lora.safetensors")]
    named = [["--model", name, "--data-dir", str(data_dir)] for name in ("My own style", model_id[:8])]
    for number, which in enumerate((base, lora, *named)):
        path = tmp_path / f"{number}.png"
        command = ["generate", "a red hat", "--speed", "TURBO", "--seed", "1", "--out", str(path), *which]
        drawn = runner.invoke(app, command)
        assert drawn.exit_code == 0, drawn.output
        pictures.append(Image.open(path).tobytes())
    assert pictures[0] != pictures[1] == pictures[2] == pictures[3]
