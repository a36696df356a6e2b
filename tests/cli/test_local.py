from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from miniature.world import Subject, photograph, write_archive
from PIL import Image
from typer.testing import CliRunner

from tintype.cli import app

pytestmark = pytest.mark.slow

runner = CliRunner()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photos, with a file among them that is none."""
    archive, folder = tmp_path / "photos.zip", tmp_path / "photos"
    write_archive(archive, photograph(Subject.from_seed(21), 4, 512), captions=True)
    zipfile.ZipFile(archive).extractall(folder)
    (folder / "[dev] notes.pdf").write_bytes(b"%PDF-")
    return folder


def test_a_folder_becomes_a_lora_that_generate_draws_with(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    trained = runner.invoke(app, ["train", str(photos), "--trigger", "ohwx", "--steps", "3", "--out", str(out)])
    assert trained.exit_code == 0, trained.output
    assert "[dev] notes.pdf" in trained.output  # brackets are no markup
    config = json.loads((out / "config.json").read_text())
    assert config["requested"]["steps"] == 3
    assert not (out / ".work").exists()
    pictures = []
    for name, loras in (("base", []), ("lora", ["--lora", str(out / "lora.safetensors"), "--scale", "2"])):
        path = tmp_path / f"{name}.png"
        command = ["generate", "a portrait of ohwx", "--steps", "4", "--seed", "1", "--out", str(path), *loras]
        drawn = runner.invoke(app, command)
        assert drawn.exit_code == 0, drawn.output
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
    assert (out / ".work" / "photos.zip").exists()
    assert [path.stat().st_mode & 0o777 for path in (out, out / ".work")] == [0o755, 0o700]


def test_what_is_not_there_and_what_is_out_of_range_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    gone = runner.invoke(app, ["train", str(tmp_path / "nothing"), "--out", str(tmp_path / "lora")])
    assert "is not there" in str(gone.exception)
    odd = runner.invoke(app, ["generate", "a hat", "--steps", "0", "--out", str(tmp_path / "x.png")])
    assert "num_inference_steps" in str(odd.exception)
